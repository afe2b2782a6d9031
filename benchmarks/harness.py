"""Interleaved rounds, medians with spreads, and what a reader must know to judge them.

All contestants of a question run in every round, in an order that turns round by round, so that a slow minute of the
machine hits all of them alike. What is reported is the ratio of each to the baseline **of its own round**, as median
and quartiles: absolute times on a shared machine mean little.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_TIMED = ("cold", "0 workers", "2 workers")
RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch", "numpy", "torchio", "diffusers", "h5py", "torchgenaug")


@dataclass(frozen=True)
class Timing:
    """One contestant: its times in seconds, one per round."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def interleaved(
    contestants: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    warm_up: int = 1,
    before: Callable[[str], Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Times each contestant once per round, in rotating order; `warm_up` rounds are not counted.

    `before` is called with the name of each before it runs, outside of its time. With ``time.process_time`` as `clock`
    only the processor time of this process counts, which other work on the machine changes less.
    """
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warm_up, rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            if before is not None:
                before(name)
            began = clock()
            contestants[name]()
            took = clock() - began
            if turn >= 0:
                seconds[name].append(took)
    return {name: Timing(values) for name, values in seconds.items()}


def ratios(timings: Mapping[str, Timing], baseline: str) -> dict[str, dict[str, float]]:
    """Time of each contestant over the baseline's time of the same round: median and quartiles."""
    table = {}
    for name, timing in timings.items():
        per_round = [mine / base for mine, base in zip(timing.seconds, timings[baseline].seconds, strict=True)]
        low, middle, high = statistics.quantiles(per_round, n=4) if len(per_round) > 1 else per_round * 3
        table[name] = {"median_s": timing.median, "ratio": middle, "ratio_q1": low, "ratio_q3": high}
    return table


def throughput_ratios(
    timings: Mapping[str, Timing], counts: Mapping[str, int], baseline: str
) -> dict[str, dict[str, float]]:
    """Samples per second of each contestant over the baseline's of the same round: median and quartiles."""
    table = {}
    for name, timing in timings.items():
        per_round = [
            (counts[name] / mine) / (counts[baseline] / base)
            for mine, base in zip(timing.seconds, timings[baseline].seconds, strict=True)
        ]
        low, middle, high = statistics.quantiles(per_round, n=4) if len(per_round) > 1 else per_round * 3
        table[name] = {
            "us_per_sample": 1e6 * timing.median / counts[name],
            "throughput": middle,
            "throughput_q1": low,
            "throughput_q3": high,
        }
    return table


def metadata() -> dict[str, Any]:
    """Commit, machine, versions and thread counts."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = getattr(sys.modules.get(package), "__version__", "absent")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _commit() -> str:
    """The commit of what runs; "-dirty" if files were changed since, but for the results themselves."""

    def git(*words: str) -> str:
        run = subprocess.run(
            ["git", *words], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False
        )
        return run.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude)benchmarks/{RESULTS.name}")
    return (git("describe", "--always") or "unknown") + ("-dirty" if changed else "")


def is_wanted(part: str, only: str | None) -> bool:
    """Whether a part of a benchmark is to run: all of them, or those whose names contain `only`."""
    return only is None or only in part


def publish(
    question: str, results: Mapping[str, Any], *, quick: bool, only: str | None = None, folder: Path = RESULTS
) -> dict[str, Any]:
    """Prints the results and, unless `quick`, keeps them as ``<folder>/<question>.json``.

    With `only`, parts of a benchmark: they replace those of the same names in the file, which says under ``parts`` when
    each was measured, and at which commit.
    """
    print(json.dumps({"question": question, "results": results}, indent=2))
    document = {"question": question, **metadata(), "results": dict(results)}
    if quick:
        return document
    folder.mkdir(exist_ok=True)
    path = folder / f"{question}.json"
    if only is not None and path.is_file():
        old = json.loads(path.read_text())
        when = {name: {"date": old["date"], "commit": old["commit"]} for name in _parts(old["results"])}
        when |= old.get("parts", {})
        when |= {name: {"date": document["date"], "commit": document["commit"]} for name in _merged(old, results)}
        document |= {"results": old["results"], "parts": when}
    path.write_text(json.dumps(document, indent=2) + "\n")
    return document


def _parts(results: Mapping[str, Any]) -> list[str]:
    cells: Mapping[str, Any] = results.get("cells", {})
    names = [f"{cell}, {table}" for cell, tables in cells.items() for table in tables if table.startswith(_TIMED)]
    return names if cells else list(results)


def _merged(old: dict[str, Any], results: Mapping[str, Any]) -> list[str]:
    """Puts new results over old ones; the names of those that are new. Of ``cells`` it goes one by one."""
    names = []
    for name, entry in results.items():
        if name == "cells":
            cells = old["results"].setdefault(name, {})
            for cell, tables in entry.items():
                cells.setdefault(cell, {}).update(tables)
                names += [f"{cell}, {table}" for table in tables if table.startswith(_TIMED)]
        else:
            old["results"][name] = entry
            names += [] if "cells" in results else [name]
    return names
