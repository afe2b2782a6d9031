"""`run_task`: runs the built-in studies of one kind of task, real data and generator included."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torchgenaug.demo.threads import torch_threads
from torchgenaug.errors import ConfigurationError
from torchgenaug.study.config import load_study
from torchgenaug.study.examples import EXAMPLES
from torchgenaug.study.rows import lines_of

TASKS: Mapping[str, tuple[str, ...]] = {
    "classification": ("digits",),
    "segmentation": ("nuclei", "new-masks"),
    "translation": ("missing-modality",),
    "volumes": ("volumes",),
}
"""Task → names of `torchgenaug.study.examples`."""


def run_task(
    task: str, out: Path, *, seeds: int | None = None, report: Callable[[str], None] = print
) -> dict[str, dict[str, Any]]:
    """Runs the studies of a task in ``OUT/NAME``, each with its file, results, reports and trained generators.

    A study that was interrupted there goes on. To change more than the seeds, edit ``OUT/NAME.toml`` and run
    ``torchgenaug study OUT/NAME.toml --out FOLDER``.

    Args:
        task: one of `TASKS`.
        out: folder of the studies; created if it is not there.
        seeds: how often each network is trained; None: as often as the study says, five times.
        report: called with what is printed.

    Returns:
        Name of the study → its summary, as in ``summary.json``.

    Raises:
        ConfigurationError: an unknown task, or less than one seed.
        MissingExtraError: a package that holds data or networks is not installed.
    """
    if task not in TASKS:
        raise ConfigurationError(f"`task` must be one of {', '.join(TASKS)}, got {task!r}.")
    if seeds is not None and seeds < 1:
        raise ConfigurationError(f"`seeds` must be at least 1, got {seeds!r}. Nothing would be trained. Try 5.")
    out.mkdir(parents=True, exist_ok=True)
    began, summaries = time.perf_counter(), {}
    for name in TASKS[task]:
        text = EXAMPLES[name]
        if seeds is not None:
            text = re.sub(r"(?m)^seeds = \d+", f"seeds = {seeds}", text)
        file = out / f"{name}.toml"
        file.write_text(text, encoding="utf-8")
        with torch_threads(1):
            summaries[name] = load_study(file, out / name).run(out / name, report=report)
        for line in lines_of(summaries[name]):
            report(line)
        report(f"Look at {out / name / 'report.html'}.")
    report(f"Done in {(time.perf_counter() - began) / 60:.1f} min.")
    return summaries
