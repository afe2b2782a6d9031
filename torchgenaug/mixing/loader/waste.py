"""`WasteMeter`: notices that a training loop mainly waits for real samples that are then thrown away."""

from __future__ import annotations

import warnings

_SHARE, _LEAST_S = 0.25, 10.0


class WasteMeter:
    """Adds up the time that a loop waits for samples that ``mode="replace"`` throws away, and warns once.

    It warns when that is more than a quarter of the time of the whole loop and more than ten seconds, so not where the
    loader keeps ahead of the training, and not in short runs.
    """

    def __init__(self) -> None:
        self._wasted_s, self._elapsed_s, self._warned = 0.0, 0.0, False

    def add(self, waited_s: float, elapsed_s: float, dropped: float) -> None:
        """One batch: how long the loop waited for it, how long ago the one before came, what fraction is dropped."""
        self._wasted_s += waited_s * dropped
        self._elapsed_s += elapsed_s
        if self._warned or self._wasted_s < max(_LEAST_S, _SHARE * self._elapsed_s):
            return
        self._warned = True
        warnings.warn(
            f"{self._wasted_s / self._elapsed_s:.0%} of the time of this loop is spent on loading real samples that "
            "mode='replace' throws away. SyntheticMixDataset does not load them: "
            "DataLoader(SyntheticMixDataset(real, synthetic, ratio), ...). Or keep them with mode='extend'.",
            UserWarning,
            stacklevel=3,
        )
