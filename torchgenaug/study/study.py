"""`Study`: arms, seeds and splits compared at equal optimizer steps, in a folder that any number of processes fill."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torchgenaug.contracts import SyntheticSource, trained_on_of
from torchgenaug.errors import ConfigurationError, DivergenceError, SmallSampleWarning
from torchgenaug.seeding import checked_seed
from torchgenaug.study.arms import Arm
from torchgenaug.study.report import write_report
from torchgenaug.study.results import Key, Results, Run
from torchgenaug.study.run import Score, Train, check_alike, run_arm
from torchgenaug.study.splits import Split, check_split, refuse_leaks, test_share
from torchgenaug.study.statistics import LEAST_REPEATS
from torchgenaug.study.summary import summarise

_WAIT_S = 0.2


class Study:
    """Compares ways to fill a training set: the same network, initial weights and optimizer steps in every arm.

    Args:
        splits: one, or several that divide the same samples anew: intervals then say how much the result depends on
            the division, corrected for the overlap of the training sets.
        arms: at least one with the role ``"control"``; see `standard_arms`.
        train: (data set, seed, steps) → model. It takes exactly `steps` optimizer steps, going over the data set as
            often as that needs.
        score: (model, data set) → number; larger is better, so return a loss with its sign changed.
        steps: optimizer steps of every arm.
        seeds: initial weights and orders of samples: how many, or which.
        metric: what the score is called.
        name: of the study.

    Raises:
        ConfigurationError: an argument outside its domain.

    Warns:
        SmallSampleWarning: fewer than three seeds and splits: no interval can be given.
    """

    def __init__(
        self,
        splits: Split | Sequence[Split],
        arms: Sequence[Arm],
        train: Train,
        score: Score,
        *,
        steps: int,
        seeds: int | Sequence[int] = 5,
        metric: str = "score",
        name: str = "study",
    ) -> None:
        self.splits = [splits] if isinstance(splits, Split) else list(splits)
        self.arms, self.train, self.score = list(arms), train, score
        self.steps, self.metric, self.name = steps, metric, name
        self.seeds = [checked_seed(seed) for seed in (range(seeds) if isinstance(seeds, int) else seeds)]
        for what, names in (("splits", [each.name for each in self.splits]), ("arms", [each.name for each in arms])):
            if not names or len(set(names)) < len(names):
                raise ConfigurationError(
                    f"`{what}` must be at least one, each with a name of its own, got {names}. Runs are found by name. "
                    "Rename or drop the doubles."
                )
        if not any(arm.role == "control" for arm in self.arms) or not any(arm.role != "control" for arm in self.arms):
            raise ConfigurationError(
                "`arms` must hold a control and an arm to compare with it, got the roles "
                f"{[arm.role for arm in self.arms]}. Nothing could be compared. Begin with standard_arms(source)."
            )
        if steps < 1:
            raise ConfigurationError(f"`steps` must be at least 1, got {steps}. Nothing would be trained.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigurationError(f"`seeds` must be different numbers, at least one, got {self.seeds}.")
        self.repeats = len(self.splits) if len(self.splits) > 1 else len(self.seeds)
        if self.repeats < LEAST_REPEATS:
            what = "splits" if len(self.splits) > 1 else "seeds"
            warnings.warn(
                f"`{what}` should be at least {LEAST_REPEATS}, got {self.repeats}. The study will state means, without "
                f"intervals, and show no difference. Use five or more {what}.",
                SmallSampleWarning,
                stacklevel=2,
            )

    def keys(self) -> list[Key]:
        """All runs, repeat by repeat, so that an interrupted study has whole comparisons."""
        return [Key(arm.name, seed, split.name) for seed in self.seeds for split in self.splits for arm in self.arms]

    def settings(self) -> dict[str, Any]:
        """What decides a score, JSON-ready; a folder of results belongs to it."""
        return {
            "name": self.name,
            "metric": self.metric,
            "steps": self.steps,
            "train": _name_of(self.train),
            "score": _name_of(self.score),
            "arms": {arm.name: {"role": arm.role, **arm.settings} for arm in self.arms},
            "splits": {
                each.name: {"train": len(each.train), "validation": len(each.validation), "test": len(each.test)}
                for each in self.splits
            },
        }

    def check(self) -> list[str]:
        """Checks that splits share nothing, and that no arm holds validation or test data.

        Returns:
            What could not be compared: a sentence each.

        Raises:
            LeakError: something leaks.
        """
        notes: list[str] = []
        for split in self.splits:
            notes += check_split(split)
            checked: list[Any] = [split.train]
            for arm in self.arms:
                source = None if arm.source is None else arm.source(split)
                data = arm.build(split, self.seeds[0]) if source is None else source
                if any(data is other for other in checked):
                    continue
                checked.append(data)
                # A source is compared by what its model was trained on and by its first samples; any other data set,
                # by all of its names and images.
                train = None if isinstance(source, SyntheticSource) else data
                known = source if train is None or trained_on_of(source) is not None else None
                notes += refuse_leaks(known, split, train=train, what=f"the training data of arm {arm.name!r}")
        return list(dict.fromkeys(notes))

    def run(self, out: str | Path, *, report: Callable[[str], None] | None = None) -> dict[str, Any]:
        """Does the runs that the folder lacks, together with any other process that works there, and reports.

        May be killed at any time: the same call goes on.

        Args:
            out: folder for ``results.jsonl``, ``summary.json``, ``report.md`` and ``report.html``.
            report: is called with lines of progress.

        Returns:
            The content of ``summary.json``.

        Raises:
            LeakError: splits share samples or patients, or an arm holds validation or test data.
            StateMismatchError: the folder is of another configuration.
            ConfigurationError: arms differ in steps, network or initial weights.
            DivergenceError: scores are not finite; all other runs are done first.
        """
        say = report or (lambda line: None)
        notes = self.check()
        results = Results(Path(out))
        results.open(self.settings())
        if results.cut_lines():
            say(f"{results.cut_lines()} lines of results.jsonl are cut off; their runs are repeated.")
        failed = self._run_all(results, say)
        runs = self._own_runs(results)
        if failed:
            raise DivergenceError("\n".join(failed))
        summary = summarise(runs, self.arms, self.metric, test_share(self.splits), notes)
        write_report(Path(out), summary, self.settings(), runs)
        return summary

    def remaining(self, out: str | Path) -> tuple[int, float | None]:
        """How many runs a folder lacks, and about how many seconds they take; None where that is not known yet."""
        folder = Path(out)
        runs = Results(folder).runs() if folder.exists() else {}
        missing = [key for key in self.keys() if key not in runs]
        if not runs:
            return len(missing), None
        return len(missing), len(missing) * sum(run.seconds for run in runs.values()) / len(runs)

    def estimate(self) -> float:
        """About how many seconds all runs take, from three short trainings of the first arm."""

        def seconds(steps: int) -> float:
            return run_arm(
                self.arms[0], self.splits[0], self.seeds[0], train=self.train, score=self.score, steps=steps
            ).seconds

        seconds(1)  # the first one pays for what is loaded once
        fixed, few = seconds(1), 8
        per_step = max(0.0, seconds(few) - fixed) / (few - 1)
        return (fixed + per_step * (self.steps - 1)) * len(self.keys())

    def _own_runs(self, results: Results) -> list[Run]:
        found = results.runs()
        return [found[key] for key in self.keys() if key in found]

    def _run_all(self, results: Results, say: Callable[[str], None]) -> list[str]:
        arms, splits = {arm.name: arm for arm in self.arms}, {split.name: split for split in self.splits}
        failed: dict[Key, str] = {}
        spent = mine = 0.0
        while missing := [key for key in self.keys() if key not in results.runs() and key not in failed]:
            progress = False
            for key in missing:
                with results.claimed(key) as free:
                    if not free:
                        continue
                    progress = True
                    began = time.perf_counter()
                    try:
                        run = run_arm(
                            arms[key.arm],
                            splits[key.split],
                            key.seed,
                            train=self.train,
                            score=self.score,
                            steps=self.steps,
                        )
                    except DivergenceError as error:
                        failed[key] = str(error)
                        say(str(error))
                        continue
                    check_alike([*self._own_runs(results), run])
                    results.append(run)
                spent, mine = spent + time.perf_counter() - began, mine + 1
                done, total = len(self._own_runs(results)), len(self.keys())
                left = _minutes(spent / mine * (total - done - len(failed)))
                say(f"{done}/{total} runs, {key}: {self.metric} {run.score:.4f}; about {left} left")
            if not progress:
                time.sleep(_WAIT_S)  # other processes are at the last runs
        return list(failed.values())


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _name_of(function: Any) -> str:
    settings = getattr(function, "settings", None)
    if isinstance(settings, str):
        return settings
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{name} of {owner!r}" if owner is not None and "object at" not in repr(owner) else name
