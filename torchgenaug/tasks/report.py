"""What a task leaves behind: the table, the verdicts, a picture, ``summary.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from torchgenaug.pictures import contact_sheet
from torchgenaug.recipes import TrainingData
from torchgenaug.tasks.comparison import BASELINES, REAL, REPEATED, TORCHIO, Outcome, mean_and_spread
from torchgenaug.types import Batch, FieldSpec

_SHOWN, _FEWEST = 10, 3
_SHORT = {REAL: "real", REPEATED: "again", TORCHIO: "TorchIO"}


@dataclass(frozen=True, slots=True)
class Section:
    """The results on one data set.

    Attributes:
        title: what was learned from what.
        metric: what the score is called.
        outcomes: per way to fill an epoch, one per seed.
        test_ids: the real samples that were scored.
        trained_on: what the generators saw.
        picture: real samples beside synthetic ones.
        caution: why the numbers are no evidence beyond this example.
        quality: further numbers, of the generated images themselves.
    """

    title: str
    metric: str
    outcomes: Mapping[str, Sequence[Outcome]]
    test_ids: Sequence[str]
    trained_on: Sequence[str]
    picture: Path
    caution: str
    quality: Mapping[str, float] = field(default_factory=dict)


def show(section: Section, console: Console) -> None:
    """Prints table, verdicts and caution."""
    title = f"{section.title}: {section.metric} on {len(section.test_ids)} real test samples"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("trained on", no_wrap=True)
    baselines = [name for name in BASELINES if name in section.outcomes]
    gaps_of = (f"vs\n{_SHORT[name]}" for name in baselines)
    for heading in ("real", "again", "synth.", section.metric, *gaps_of):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, outcomes in section.outcomes.items():
        mean, spread = mean_and_spread([each.score for each in outcomes])
        first = outcomes[0]
        counts = (str(count or "") for count in (first.real, first.repeated, first.synthetic))
        gaps = (_signed(difference(section.outcomes, name, other)) if name != other else "" for other in baselines)
        table.add_row(name, *counts, f"{mean:.3f} ± {spread:.3f}", *gaps)
    console.print(table)
    for line in verdicts(section.outcomes):
        console.print(line, highlight=False)
    console.print(f"Caution: {section.caution}", highlight=False)
    console.print(f"Look at {section.picture}.")


def difference(outcomes: Mapping[str, Sequence[Outcome]], name: str, other: str) -> list[float]:
    """Scores minus those of `other`, seed by seed."""
    return [a.score - b.score for a, b in zip(outcomes[name], outcomes[other], strict=True)]


def verdicts(outcomes: Mapping[str, Sequence[Outcome]]) -> list[str]:
    """A sentence per training with synthetic samples and baseline: better or worse, and in how many trainings."""
    lines = []
    for name, each in outcomes.items():
        if not each[0].synthetic:
            continue
        parts = []
        for other in (name for name in BASELINES if name in outcomes):
            gaps = difference(outcomes, name, other)
            mean, wins = sum(gaps) / len(gaps), sum(gap > 0 for gap in gaps)
            losses = sum(gap < 0 for gap in gaps)
            word = "better than" if wins == len(gaps) else "worse than" if losses == len(gaps) else "no clear gap to"
            parts.append(f"{word} {_SHORT[other]} ({mean:+.3f}; {wins} up, {losses} down)")
        lines.append(f"{name}: " + ", ".join(parts) + ".")
    if lines and len(next(iter(outcomes.values()))) < _FEWEST:
        lines.append("One or two trainings each: chance alone gives such gaps. Take --seeds 3 or more.")
    return lines


def _signed(gaps: Sequence[float]) -> str:
    mean = sum(gaps) / len(gaps)
    colour = "green" if min(gaps) > 0 else "red" if max(gaps) < 0 else "yellow"
    return f"[{colour}]{mean:+.3f}[/]"


def draw(
    real: TrainingData,
    made: Batch,
    names: Sequence[str],
    path: Path,
    *,
    rotate: int = 0,
    shown: int = _SHOWN,
) -> Path:
    """A picture of `shown` real samples, spread over the set, and below them as many synthetic ones."""
    count = min(shown, len(real), len(made[names[0]]))
    rows = [round(k * (len(real) - 1) / max(1, count - 1)) for k in range(count)]
    samples = [{name: real.samples[row][name] for name in names} for row in rows]
    samples += [{name: made[name][k] for name in names} for k in range(count)]
    fields: Mapping[str, FieldSpec] = {name: real.fields[name] for name in names}
    marks = ["real"] * count + ["synthetic"] * count
    return contact_sheet(
        samples, fields, path, marks=marks, columns=count if count <= 5 else -(-count // 2), rotate=rotate
    )


def write_summary(
    task: str, sections: Sequence[Section], out: Path, seconds: float, console: Console
) -> dict[str, Any]:
    """Writes ``summary.json``, and prints how long it took."""
    summary: dict[str, Any] = {"task": task, "seconds": seconds, "sections": []}
    for section in sections:
        rows = []
        for name, outcomes in section.outcomes.items():
            mean, spread = mean_and_spread([each.score for each in outcomes])
            rows.append(
                {"trained_on": name, "mean": mean, "spread": spread, "runs": [asdict(each) for each in outcomes]}
            )
        summary["sections"].append(
            {
                "title": section.title,
                "metric": section.metric,
                "rows": rows,
                "verdicts": verdicts(section.outcomes),
                "caution": section.caution,
                "quality": dict(section.quality),
                "test": list(section.test_ids),
                "generator_trained_on": list(section.trained_on),
                "picture": section.picture.name,
            }
        )
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print(f"Results in {out / 'summary.json'}. Done in {seconds / 60:.1f} min.")
    return summary
