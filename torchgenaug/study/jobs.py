"""`Jobs`: does the runs that a folder lacks, together with other processes that work there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from torchgenaug.errors import DivergenceError
from torchgenaug.study.arms import Arm
from torchgenaug.study.results import Key, Results, Run
from torchgenaug.study.run import Score, Train, check_alike, run_arm
from torchgenaug.study.shares import share_of
from torchgenaug.study.splits import Split

_WAIT_S = 0.2


class Jobs:
    """The runs of one study in one folder.

    Args:
        arms: of the study, as `splits`, `train`, `score` and `metric`.
        splits: with all of their training data.
        train: see `torchgenaug.study.Study`.
        score: see `torchgenaug.study.Study`.
        metric: which score counts.
        results: the folder.
    """

    def __init__(
        self, arms: Sequence[Arm], splits: Sequence[Split], train: Train, score: Score, metric: str, results: Results
    ) -> None:
        self.arms, self.splits = {arm.name: arm for arm in arms}, {split.name: split for split in splits}
        self.train, self.score, self.metric, self.results = train, score, metric, results
        self._parts: dict[tuple[str, float], Split] = {}
        self._spent, self._steps = 0.0, 0
        self._failed: dict[Key, str] = {}

    def done(self, keys: Sequence[Key]) -> list[Run]:
        """The finished runs among these, in their order."""
        found = self.results.runs()
        return [found[key] for key in keys if key in found]

    def run(self, keys: Sequence[Key], every: Sequence[Key], say: Callable[[str], None]) -> list[str]:
        """Does what is missing, and waits for what others are at.

        Args:
            keys: the runs.
            every: all runs of the study, for progress.
            say: is called with a line after each run.

        Returns:
            What is wrong with scores that are not finite, in this call and earlier ones, a text each.
        """
        failed = self._failed
        while missing := [key for key in keys if key not in self.results.runs() and key not in failed]:
            progress = False
            for key in missing:
                with self.results.claimed(key) as free:
                    if not free:
                        continue
                    progress = True
                    began = time.perf_counter()
                    try:
                        run = run_arm(
                            self.arms[key.arm],
                            self._split(key),
                            key,
                            train=self.train,
                            score=self.score,
                            metric=self.metric,
                        )
                    except DivergenceError as error:
                        failed[key] = str(error)
                        say(str(error))
                        continue
                    check_alike([*self.done(keys), run])
                    self.results.append(run)
                self._spent, self._steps = self._spent + time.perf_counter() - began, self._steps + key.steps
                done = self.results.runs()
                to_do = sum(each.steps for each in every if each not in done and each not in failed)
                left = _minutes(self._spent / self._steps * to_do)
                number = f"{sum(each in done for each in every)}/{len(every)}"
                say(f"{number} runs, {key}: {self.metric} {run.score:.4f}; about {left} left")
            if not progress:
                time.sleep(_WAIT_S)  # other processes are at the last runs
        return list(failed.values())

    def _split(self, key: Key) -> Split:
        if (key.split, key.share) not in self._parts:
            self._parts[key.split, key.share] = share_of(self.splits[key.split], key.share)
        return self._parts[key.split, key.share]


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
