"""`Study`: arms, seeds and splits compared at equal optimizer steps, in a folder that any number of processes fill."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torchgenaug.contracts import SyntheticSource, trained_on_of
from torchgenaug.errors import ConfigurationError, DivergenceError, SmallSampleWarning
from torchgenaug.seeding import checked_seed
from torchgenaug.study.arms import ROLES, Arm
from torchgenaug.study.extent import Extent
from torchgenaug.study.jobs import Jobs
from torchgenaug.study.mix_pictures import mix_pictures
from torchgenaug.study.report import write_report
from torchgenaug.study.results import Key, Results, Run
from torchgenaug.study.run import Score, Train, run_arm
from torchgenaug.study.shares import share_of
from torchgenaug.study.splits import Split, check_split, refuse_leaks, test_share
from torchgenaug.study.statistics import LEAST_REPEATS
from torchgenaug.study.summary import summarise, summarise_all


class Study:
    """Compares ways to fill a training set: the same network, initial weights and optimizer steps in every arm.

    Args:
        splits: one, or several that divide the same samples anew: intervals then say how much the result depends on
            the division, corrected for the overlap of the training sets.
        arms: at least one with the role ``"control"``; see `standard_arms`.
        train: (data set, seed, steps) → model. It takes exactly `steps` optimizer steps, going over the data set as
            often as that needs.
        score: (model, data set) → number, or dict of several; larger is better, so return a loss with its sign changed.
        steps: optimizer steps of every arm.
        seeds: initial weights and orders of samples: how many, or which.
        metric: what the score is called; which one counts, where `score` returns a dict of several.
        name: of the study.
        extent: further training lengths, and fractions of the real data for learning curves.

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
        extent: Extent | None = None,
    ) -> None:
        self.extent = extent or Extent()
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
        for arm in self.arms:
            if arm.role not in ROLES:
                raise ConfigurationError(
                    f"`role` of arm {arm.name!r} must be one of {', '.join(ROLES)}, got {arm.role!r}. It would be "
                    "compared with nothing. Arms without a generator are controls."
                )
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ConfigurationError(
                f"`steps` must be a whole number of at least 1, got {steps!r}. Nothing would be trained. "
                "For example steps=300."
            )
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
        """All runs: first those that decide verdicts, repeat by repeat; then other lengths, then parts of the data."""
        first, *others = self.extent.lengths
        steps = [(first, 1.0), *((length, 1.0) for length in others)]
        steps += [(first, share) for share in self.extent.shares if share < 1]
        return [
            Key(arm.name, seed, split.name, length * self.steps, share)
            for length, share in steps
            for seed in self.seeds
            for split in self.splits
            for arm in self.arms
            if share == 1 or arm.role != "oracle"
        ]

    def headroom_keys(self) -> list[Key]:
        """The runs that show whether anything can be gained, where the study ends if nothing can; none where not."""
        if self.extent.past_no_headroom or not any(arm.role == "oracle" for arm in self.arms):
            return []
        keys, roles = self.keys(), {arm.name: arm.role for arm in self.arms}
        return [key for key in keys if key[3:] == (keys[0].steps, 1.0) and roles[key.arm] != "synthetic"]

    def lacks_headroom(self, runs: Sequence[Run]) -> bool:
        """Whether `runs`, those of `headroom_keys`, show that nothing can be gained."""
        found = summarise(runs, self.arms, self.metric, test_share(self.splits))
        return found["headroom"] is False

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
            for share in self.extent.shares:
                share_of(split, share)
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
        jobs = Jobs(self.arms, self.splits, self.train, self.score, self.metric, results)
        keys = self.keys()
        stopped, first = False, self.headroom_keys()
        if first and not jobs.run(first, keys, say):
            stopped = self.lacks_headroom(jobs.done(first))
            keys = first if stopped else keys
        failed = jobs.run(keys, keys, say)
        if failed:
            raise DivergenceError("\n".join(failed))
        runs = jobs.done(keys)
        summary = summarise_all(runs, self.arms, self.metric, test_share(self.splits), notes, stopped=stopped)
        write_report(Path(out), summary, self.settings(), runs, pictures=mix_pictures(self.splits[0], self.arms))
        return summary

    def remaining(self, out: str | Path) -> tuple[int, float | None]:
        """How many runs a folder lacks, and about how many seconds they take; None where that is not known yet."""
        folder = Path(out)
        runs = Results(folder).runs() if folder.exists() else {}
        missing = [key for key in self.keys() if key not in runs]
        if not runs:
            return len(missing), None
        per_step = sum(run.seconds for run in runs.values()) / sum(run.steps for run in runs.values())
        return len(missing), per_step * sum(key.steps for key in missing)

    def estimate(self) -> float:
        """About how many seconds all runs take, from three short trainings of the first arm."""
        arm, split, seed = self.arms[0], self.splits[0], self.seeds[0]

        def seconds(steps: int) -> float:
            key = Key(arm.name, seed, split.name, steps)
            return run_arm(arm, split, key, train=self.train, score=self.score, metric=self.metric).seconds

        seconds(1)  # the first one pays for what is loaded once
        fixed, few = seconds(1), 8
        per_step = max(0.0, seconds(few) - fixed) / (few - 1)
        return sum(fixed + per_step * (key.steps - 1) for key in self.keys())


def _name_of(function: Any) -> str:
    if isinstance(function, functools.partial):
        return re.sub(
            r" at 0x[0-9a-f]+", "", f"{_name_of(function.func)}{(*function.args, *function.keywords.items())}"
        )
    settings = getattr(function, "settings", None)
    if isinstance(settings, str):
        return settings
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__qualname__", type(function).__name__)
    if owner is None or "object at" in repr(owner):
        return name
    return re.sub(r" at 0x[0-9a-f]+", "", f"{name} of {owner!r}")
