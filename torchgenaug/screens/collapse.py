"""Mode collapse: a model that gives the same few images, whatever the seed.

What is counted are the samples of a batch that have a near copy among the others. A model with K different images gives
such a copy to a fraction 1 - exp(-n/K) of n samples (a birthday paradox), so 20 % of 256 samples mean that K is below
about 1,100.

The tolerances were set where real data stay silent: among 256 real digits (28 × 28) no two were nearer than 0.10 of
their contrast (0.064 among digits of one class), among slices of one brain 1 mm apart 7 % were nearer than 0.02.

References:
    Arora, Zhang (2017). Do GANs actually learn the distribution? An empirical study. arXiv:1706.08224.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from torchgenaug.errors import BadSampleError, ConfigurationError
from torchgenaug.screens.fields import chosen_images
from torchgenaug.screens.likeness import block_means, content_hashes, have_copies, have_near_copies
from torchgenaug.types import Batch

MAX_RATE = 0.2
"""Fraction of samples that may have a near copy among the others."""
MAX_COPY_RATE = 0.05
"""Fraction of samples that may have an exact copy."""
TOLERANCE = 0.02
"""How near near copies are, as a fraction of the contrast."""
MIN_SAMPLES = 16
"""Fewer are not judged: two images that look alike are no collapse."""


class CollapseScreen:
    """Refuses batches in which too many images look alike.

    Judges each batch by itself (a pure function of it), so it needs batches of at least `MIN_SAMPLES`, and the larger
    they are the less collapse it takes. `render_shards` watches longer stretches by itself, and warns.

    Args:
        max_rate: fraction of a batch's samples that may have a near copy in it, in [0, 1).
        tolerance: how near that is: root mean square difference of 8 × 8 block means, as a fraction of their contrast.
        fields: which fields to judge; None for all floating-point fields with spatial axes.

    Raises:
        ConfigurationError: a number outside its domain.

    Example:
        >>> screen = CollapseScreen()
        >>> screen(range(32), range(32), {"image": torch.rand(32, 1, 16, 16)})
        >>> same = torch.rand(1, 1, 16, 16).expand(32, -1, -1, -1)
        >>> screen(range(32), range(32), {"image": same})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        torchgenaug.errors.BadSampleError: Field 'image' must differ from sample to sample, ...
    """

    def __init__(
        self, *, max_rate: float = MAX_RATE, tolerance: float = TOLERANCE, fields: Sequence[str] | None = None
    ) -> None:
        for name, value in (("max_rate", max_rate), ("tolerance", tolerance)):
            if not 0 <= value < 1:
                raise ConfigurationError(f"`{name}` must be in [0, 1), got {value!r}. The default suits most images.")
        self.max_rate, self.tolerance = float(max_rate), float(tolerance)
        self.fields = None if fields is None else tuple(fields)

    @property
    def fingerprint(self) -> str:
        """sha256 over the settings."""
        return hashlib.sha256(f"collapse\n{self.max_rate}\n{self.tolerance}\n{self.fields}".encode()).hexdigest()

    def __call__(self, ids: Sequence[int], seeds: Sequence[int], batch: Batch) -> None:
        """Raises `BadSampleError` if too many samples of `batch` look like another one of it."""
        if len(ids) < MIN_SAMPLES:
            return
        for name in chosen_images(batch, self.fields):
            images = batch[name]
            rows, what = _alike(block_means(images), content_hashes(images), self.max_rate, self.tolerance)
            if not rows:
                continue
            raise BadSampleError(
                f"Field {name!r} must differ from sample to sample, got {what} in {len(rows)} of the {len(ids)} "
                f"samples {ids[0]} to {ids[-1]}: the model may have collapsed. Nothing of this batch was used. Look "
                "at the samples; if they must look alike, raise `max_rate` of the CollapseScreen.",
                ids=[ids[row] for row in rows],
                seeds=[seeds[row] for row in rows],
            )

    def __repr__(self) -> str:
        return f"CollapseScreen(max_rate={self.max_rate}, tolerance={self.tolerance})"


class CollapseWatch:
    """Notices if too many of a stretch of samples look alike, however small the batches are that they come in.

    Keeps only block means and a hash of each image. The stretch begins with the watch: start one where ids say so, not
    where a run happens to begin, and the alarm depends on the ids alone.

    Args:
        num_samples: length of the stretch; what comes later is not looked at.
    """

    def __init__(self, num_samples: int = 256) -> None:
        self._limit, self._next_look = num_samples, MIN_SAMPLES
        self._ids: list[int] = []
        self._means: dict[str, list[Tensor]] = {}
        self._hashes: dict[str, list[int]] = {}

    @property
    def is_over(self) -> bool:
        """Whether the stretch has been seen whole."""
        return len(self._ids) >= self._limit

    def add(self, ids: Sequence[int], batch: Batch) -> str:
        """Looks at more samples of the stretch (after 16, 64 and 256 of them).

        Args:
            ids: of the samples.
            batch: the samples.

        Returns:
            What is wrong, for a `CollapseWarning`; nothing if all is well.
        """
        ids = ids[: self._limit - len(self._ids)]
        self._ids += ids
        for name in chosen_images(batch, None):
            images = batch[name][: len(ids)]
            self._means.setdefault(name, []).append(block_means(images).cpu())
            self._hashes.setdefault(name, []).extend(content_hashes(images))
        if len(self._ids) < min(self._next_look, self._limit):
            return ""
        while self._next_look <= len(self._ids):
            self._next_look *= 4
        for name, means in self._means.items():
            rows, what = _alike(torch.cat(means), self._hashes[name], MAX_RATE, TOLERANCE)
            if rows:
                return (
                    f"Field {name!r} has {what} in {len(rows)} of the {len(self._ids)} samples {self._ids[0]} to "
                    f"{self._ids[-1]}: the model may have collapsed to few images. They were kept. Look at them with "
                    "torchgenaug preview; to refuse such batches, SyntheticSequence(..., screens=[CollapseScreen()])."
                )
        return ""


def _alike(means: Tensor, hashes: Sequence[int], max_rate: float, tolerance: float) -> tuple[list[int], str]:
    """The rows that look like another one, and how; none if they are not too many."""
    for alike, limit, what in (
        (have_copies(hashes), min(max_rate, MAX_COPY_RATE), "exact copies"),
        (have_near_copies(means, tolerance), max_rate, "near copies"),
    ):
        rows: list[int] = torch.nonzero(alike)[:, 0].tolist()
        if len(rows) > limit * len(hashes):
            return rows, what
    return [], ""
