"""The results as tables and a plot: ``results/README.md`` and ``results/reading.png``, from the JSON files alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS
from benchmarks.target_run import runs_of
from benchmarks.targets import SIZES, SMALL, TARGETS, Target

PROFILES = "profiles"


def load(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Question → document, for every JSON file of the results."""
    documents = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {name: document for name, document in documents.items() if "question" in document}  # not simulations


def missed(documents: Mapping[str, Any]) -> list[str]:
    """The profiles of the targets that were missed."""
    results = {question: document["results"] for question, document in documents.items()}
    names = []
    for target in TARGETS:
        try:
            if not target.reached(target.measure(results)):
                names.append(target.profile)
        except KeyError:
            continue
    return sorted(set(filter(None, names)))


def _earlier(document: Mapping[str, Any]) -> str:
    """The parts of a benchmark that were measured on other days than the latest."""
    when: dict[str, list[str]] = {}
    for part, entry in document.get("parts", {}).items():
        if entry["date"][:10] != document["date"][:10]:
            when.setdefault(f"{entry['date'][:10]}, commit {entry['commit']}", []).append(part)
    return "".join(f"; {run}: {', '.join(parts)}" for run, parts in when.items())


def targets_table(documents: Mapping[str, Any]) -> Iterable[str]:
    results = {question: document["results"] for question, document in documents.items()}
    yield "| What | Target | Measured | | What bounds it, in the same results |"
    yield "|---|---|---|---|---|"
    for target in TARGETS:
        try:
            value = target.measure(results)
        except KeyError:
            yield f"| {target.what} | {target.promise} | not measured | | |"
            continue
        verdict = "reached" if target.reached(value) else "**missed**"
        if verdict == "**missed**" and (RESULTS / PROFILES / f"{target.profile}.txt").is_file():
            verdict += f" ([profile]({PROFILES}/{target.profile}.txt))"
        yield f"| {target.what} | {target.promise} | {value:.3g}{target.unit} | {verdict} | {_bound(target, results)} |"
    yield "| everything on a CUDA GPU | | not in this run; one H200: docs/gpu.md | | |"


def run_line(documents: Mapping[str, Any]) -> str:
    """Of which runs the rows of the targets are."""
    runs = runs_of(documents)
    if len(runs) == 1:
        return f"All rows were measured in one run: {next(iter(runs))}."
    return "Measured on " + "; ".join(f"{run} ({', '.join(parts)})" for run, parts in runs.items()) + "."


def _bound(target: Target, results: Mapping[str, Any]) -> str:
    if target.bound is None:
        return ""
    what, measure = target.bound
    try:
        return f"{measure(results):.3g}{target.unit}: {what}"
    except KeyError:
        return ""


def reading_table(
    cells: Mapping[str, Any], kinds: Mapping[str, str], wanted: Iterable[tuple[str, str]]
) -> Iterable[str]:
    """Peers × (cell, table): throughput, and the spread of the rounds where it is wide."""
    columns = [(cell, table) for cell, table in wanted if table in cells.get(cell, {})]
    heads = [f"{cell}, {table}" if table != "cold" else cell for cell, table in columns]
    yield "| | " + " | ".join(head.replace(" float32", "") for head in heads) + " |"
    yield "|---|" + "---|" * len(columns)
    entries = [cells[cell][table] for cell, table in columns]
    names = sorted({name for entry in entries for name in entry}, key=lambda name: -_best(name, entries))
    for name in names:
        shown = f"**{name}**" if kinds.get(name, "ours").startswith("ours") else name
        yield f"| {shown} | " + " | ".join(_shown(entry.get(name)) for entry in entries) + " |"


def _best(name: str, entries: list[Mapping[str, Any]]) -> float:
    return float(next((entry[name]["throughput"] for entry in entries if name in entry), 0.0))


def _shown(entry: Mapping[str, float] | None) -> str:
    if entry is None:
        return "–"
    middle, low, high = entry["throughput"], entry["throughput_q1"], entry["throughput_q3"]
    spread = f" ({low:.2g}–{high:.2g})" if high - low > 0.15 * middle else ""
    return f"{middle:.2g}{spread}" if middle < 10 else f"{middle:.0f}{spread}"


def families_table(results: Mapping[str, Any]) -> Iterable[str]:
    """Quality, variety and speed of each family."""
    yield "![Samples of each family](families.png)"
    yield ""
    yield "![Samples of the families at equal time](equal_time.png)"
    earlier = {row["measured"] for row in results["rows"] if "measured" in row}
    if earlier:
        fresh = ", ".join(f"{row['family']} {row['data']}" for row in results["rows"] if "measured" not in row)
        yield ""
        yield f"Measured on {'; '.join(sorted(earlier))}; in the latest run: {fresh}."
    yield ""
    yield (
        "Trained from the start on one core; minutes and samples/s are CPU time. Distance: sliced Wasserstein distance "
        "to held-out real images, over that of real training images to them (1: as near as real ones); beside it that "
        "of the untrained networks and of noise. Variety: mean distance of two samples of a condition, over that "
        "of two real images. Copies: by the copy test, 5 % by chance; –: not measured (held-out "
        "images are one block of slices). PSNR: of held-out pairs, beside that of the "
        "mean training image."
    )
    yield ""
    yield (
        "| Family | Data | Told | Parameters | Minutes | Steps | Distance | Untrained | Noise | Variety | Copies "
        "| PSNR | Samples/s |"
    )
    yield "|---|" + "---|" * 12
    for row in results["rows"]:
        size = "×".join(map(str, row["shape"]))
        told = "makes the mask too" if row.get("with_mask") else row["condition"]
        if "steps" in row:
            trained = f"{row['million_parameters']:.2g} M | {row['planned_minutes']:g} | {row['steps']:,}"
        else:
            trained = f"of {' and '.join(row['parts'])} | | "
        untrained = f"{row['distance_untrained']:.1f}" if "distance_untrained" in row else ""
        psnr = f"{row['psnr_db']:.1f} ({row['psnr_mean_image_db']:.1f})" if "psnr_db" in row else ""
        yield (
            f"| {row['family']} | {row['data']}, {size} | {told} | {trained} | {row['distance']:.2f} | {untrained} | "
            f"{row['distance_noise']:.1f} | {row['variety']:.2f} | {_percent(row['copied'])} | {psnr} | "
            f"{_number(row['samples_per_cpu_second'])} |"
        )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def plain_tables(question: str, results: Mapping[str, Any]) -> Iterable[str]:
    """Any other results: one row per entry that holds numbers, named by its path."""
    rows = list(_rows(results, ()))
    columns = list(dict.fromkeys(key for _, entry in rows for key in entry))
    if not rows:
        return
    yield f"### {question}"
    yield ""
    yield "| | " + " | ".join(column.replace("_", " ") for column in columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for path, entry in rows:
        yield f"| {' / '.join(path)} | " + " | ".join(_number(entry.get(column)) for column in columns) + " |"
    yield ""


def _rows(value: Mapping[str, Any], path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], dict[str, float]]]:
    numbers = {key: part for key, part in value.items() if isinstance(part, (int, float))}
    if numbers:
        yield path or ("all",), numbers
    for key, part in value.items():
        if isinstance(part, Mapping):
            yield from _rows(part, (*path, key))


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def markdown(documents: Mapping[str, Any]) -> str:
    lines = ["# Results", "", "Made by `python -m benchmarks report` from the JSON files beside it.", ""]
    for question, document in documents.items():
        lines.append(
            f"- `{question}`: {document['date'][:10]}, commit {document['commit']}, {document['device']}, "
            f"{document['cores']} cores, torch {document['versions']['torch']}, {document['torch_threads']} thread"
            + _earlier(document)
        )
    lines += ["", "## Targets", "", *targets_table(documents), "", run_line(documents), ""]
    if "reading" in documents:
        results = documents["reading"]["results"]
        cells, kinds = results["cells"], results["kinds"]
        lines += [
            "## Reading", "", "![Throughput of reading](reading.png)", "",
            "Throughput over a `DataLoader` over an in-memory `TensorDataset`, item by item (1.0); medians, and "
            "quartiles where they are more than 15 % apart. Cold: over plain h5py.", "",
        ]  # fmt: skip
        small = [cell for cell in cells if "float32" not in cell]
        cold = [cell for cell in cells if cell.endswith("cold")]
        for title, wanted in {
            "float32": [(cell, table) for cell in SIZES for table in ("0 workers", "2 workers")],
            "float16 and uint8": [(cell, "0 workers") for cell in small],
            "Cold cache, opening included": [(cell, "cold") for cell in cold],
        }.items():
            lines += [f"### {title}", "", *reading_table(cells, kinds, wanted), ""]
        absent = {f"{name}: {why}" for cell in cells.values() for name, why in cell["absent"].items()}
        lines += ["Absent: " + ("; ".join(sorted(absent)) or "none."), ""]
    if "families" in documents:
        lines += ["## Families", "", *families_table(documents["families"]["results"]), ""]
    lines += ["## All the others", ""]
    for question, document in documents.items():
        if question not in ("reading", "families"):
            lines += plain_tables(question, document["results"])
    return "\n".join(lines).rstrip() + "\n"


def plot(documents: Mapping[str, Any], path: Path) -> None:
    """Throughput of every way to read 1×64×64 float32."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    results = documents["reading"]["results"]
    cell: Mapping[str, Any] = next(
        (results["cells"][name] for name in (SMALL, *results["cells"]) if name in results["cells"]), {}
    )
    tables = [table for table in ("0 workers", "2 workers") if table in cell]
    figure, axes = plt.subplots(1, len(tables), figsize=(6 * len(tables), 6.4), squeeze=False, layout="constrained")
    for axis, table in zip(axes[0], tables, strict=True):
        ranked = sorted(cell[table].items(), key=lambda item: item[1]["throughput"])
        names = [name for name, _ in ranked]
        ours = ["ShardSource" in name or name == "SyntheticPool" for name in names]
        axis.barh(
            names, [entry["throughput"] for _, entry in ranked], color=["#c0392b" if own else "#95a5a6" for own in ours]
        )
        axis.set_xscale("log")
        axis.axvline(1, color="black", linewidth=0.8)
        axis.tick_params(labelsize=7)
        axis.set_title(f"1×64×64 float32, {table}", fontsize=9)
        axis.set_xlabel("samples/s over an in-memory item loader", fontsize=8)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def write(folder: Path = RESULTS) -> list[Path]:
    """Makes the table and, with matplotlib, the plot; which files were made."""
    documents = load(folder)
    made = [folder / "README.md"]
    made[0].write_text(markdown(documents))
    if "reading" in documents:
        try:
            plot(documents, folder / "reading.png")
        except ImportError:
            print("no plot: matplotlib is absent")
        else:
            made.append(folder / "reading.png")
    return made
