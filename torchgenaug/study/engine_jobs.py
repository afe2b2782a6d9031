"""A study as jobs: each does one run, on any engine that runs functions (Ray, Slurm, Dask, a process pool).

The results are those of `Study.run` in one process: a run depends on its arm, seed and split alone, and is written to
the folder of the study, which all machines see. What an engine does twice is found there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torchgenaug.errors import DivergenceError
from torchgenaug.study.jobs import Jobs
from torchgenaug.study.results import Key, Results
from torchgenaug.study.study import Study


@dataclass(frozen=True, slots=True)
class StudyJob:
    """One run of a study; small, and picklable if `build` is.

    Attributes:
        build: returns the study, in the process that does the run.
        path: folder of the results, absolute; every machine must see it under this path.
        key: which run.
    """

    build: Callable[[], Study]
    path: str
    key: Key


def study_jobs(build: Callable[[], Study], out: str | Path) -> list[StudyJob]:
    """The runs that a study lacks and that can be done now, in any order and at the same time.

    A study with an oracle ends where nothing can be gained: its first jobs are those that show it. So ask again when
    all are done, until there are none; ``build().run(out)`` then does nothing but write the report.

    Args:
        build: returns the study, for example ``functools.partial(load_study, "study.toml", out)``. A process calls it
            for each of its jobs.
        out: folder of the results, as for `Study.run`.

    Raises:
        LeakError: splits share samples or patients, or an arm holds validation or test data.
        StateMismatchError: the folder is of another configuration.
    """
    study, results = build(), Results(Path(out))
    study.check()
    results.open(study.settings())
    runs = results.runs()
    first = study.headroom_keys()
    wanted = first if any(key not in runs for key in first) else study.keys()
    if first and wanted is not first and study.lacks_headroom([runs[key] for key in first]):
        return []
    return [StudyJob(build, os.path.abspath(out), key) for key in wanted if key not in runs]


def run_study_job(job: StudyJob) -> float:
    """Does one run, unless the folder has it, and returns its score.

    Raises:
        DivergenceError: the score is not finite.
        ConfigurationError: arms differ in network or initial weights.
        StateMismatchError: the folder is of another configuration.
    """
    study, results = job.build(), Results(Path(job.path))
    results.open(study.settings())
    jobs = Jobs(study.arms, study.splits, study.train, study.score, study.metric, results)
    failed = jobs.run([job.key], [job.key], lambda line: None)
    if failed:
        raise DivergenceError("\n".join(failed))
    return results.runs()[job.key].score
