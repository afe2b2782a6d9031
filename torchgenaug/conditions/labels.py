"""`ClassLabels`: class labels in exact proportions, as a pure function of ids.

Coin flips would let 100 samples of 4 classes come out as 18 to 32 each, and a small class may be missing altogether.
Ids fall into blocks of M; block b draws the numbers ``(s + v_b) / M`` for s = 0 … M - 1,
in an order of its own, and each number picks the class in whose share of [0, 1) it falls (systematic sampling). The
offset ``v_b`` moves by the golden ratio from block to block, so that shares that do not fit into a block are exact over
the blocks (a Kronecker sequence, whose deviation grows with the logarithm of the length only).

References:
    Madow, Madow (1944). On the theory of systematic sampling. Ann. Math. Statist. 15, 1.
    Kuipers, Niederreiter (1974). Uniform distribution of sequences. Wiley, chapter 2.3.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug import seeding
from torchgenaug.conditions.streams import stream
from torchgenaug.errors import ConfigurationError
from torchgenaug.types import Batch, FieldSpec

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_DEFAULT_BLOCK, _LARGEST_BLOCK = 8, 20


class ClassLabels:
    """Class labels for the samples of a sequence; balanced by default.

    Among the first n ids every class has n times its share, give or take a few, for every n; where all shares are
    multiples of 1/M for an M up to 20 (balanced classes: any number of them), each aligned block of M ids holds exactly
    its share. The order within the blocks is random, by `seed`, so that no worker, shard or batch sees a pattern.
    Deterministic, the same on every machine, picklable, safe in workers and threads.

    Args:
        num_classes: labels lie in [0, num_classes).
        weights: share of each class, any positive scale; default: all equal. 0 leaves a class out.
        like: real labels whose distribution to follow, instead of `weights`.
        seed: another seed deals the same shares in another order.
        name: name of the field.

    Attributes:
        fields: the field, int64 scalar.
        fingerprint: sha256 over shares, seed and name.
        shares: (num_classes,) float64, sums to 1.

    Raises:
        ConfigurationError: no classes, weights or real labels that do not fit, or both given.

    Example:
        >>> ClassLabels(3)(range(6))["label"].bincount().tolist()
        [2, 2, 2]
        >>> ClassLabels(2, weights=[0.9, 0.1])(range(100))["label"].sum().item()
        10
    """

    def __init__(
        self,
        num_classes: int,
        *,
        weights: Sequence[float] | None = None,
        like: Sequence[int] | npt.NDArray[np.integer] | torch.Tensor | None = None,
        seed: int = 0,
        name: str = "label",
    ) -> None:
        if isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer) or num_classes < 1:
            raise ConfigurationError(f"`num_classes` must be a positive integer, got {num_classes!r}.")
        num_classes = int(num_classes)  # numpy integers too: labels.max() + 1 is one
        if weights is not None and like is not None:
            raise ConfigurationError("`weights` and `like` must not be given both. Leave one of them out.")
        seed = seeding.checked_seed(seed)
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"`name` must be a field name, got {name!r}. The default is 'label'.")
        if weights is not None:
            weighted = _checked_weights(weights, num_classes)
        elif like is not None:
            weighted = _counts(like, num_classes)
        else:
            weighted = np.ones(num_classes)
        self.num_classes, self.seed, self.name = num_classes, seed, name
        self.shares: npt.NDArray[np.float64] = weighted / weighted.sum()
        self._block, self._edges = _blocks(weighted)
        # One class has no range to state: FieldSpec wants low < high.
        limits = (0, num_classes - 1) if num_classes > 1 else None
        self.fields: Mapping[str, FieldSpec] = {name: FieldSpec((), torch.int64, kind="scalar", value_range=limits)}
        identity = (*stream(seed, name)[2:], "class labels", self._block, self._edges.tolist(), seed, name)
        self.fingerprint = hashlib.sha256(repr(identity).encode()).hexdigest()

    def __call__(self, ids: Sequence[int]) -> Batch:
        """The labels of samples `ids`: {name: int64 (len(ids),)}."""
        blocks, places = np.divmod(np.asarray(ids, dtype=np.uint64), np.uint64(self._block))
        distinct, which = np.unique(blocks, return_inverse=True)
        leading = stream(self.seed, self.name)
        keys = seeding.derive(*leading, distinct[:, None], np.arange(self._block, dtype=np.uint64))
        strata = np.argsort(keys, axis=1, kind="stable")[which, places.astype(np.int64)]
        with np.errstate(over="ignore"):
            turns = blocks * _GOLDEN + seeding.derive(*leading)
        numbers = strata + (turns >> np.uint64(11)) * 2.0**-53
        labels = np.searchsorted(self._edges, numbers, side="right")
        return {self.name: torch.from_numpy(labels.astype(np.int64, copy=False))}

    def __repr__(self) -> str:
        shares = "balanced" if np.ptp(self.shares) == 0 else f"shares={np.round(self.shares, 4).tolist()}"
        return f"ClassLabels({self.num_classes}, {shares}, seed={self.seed})"


def _checked_weights(weights: Sequence[float], num_classes: int) -> npt.NDArray[np.float64]:
    try:
        values = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (num_classes,) or not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise ConfigurationError(
            f"`weights` must be {num_classes} finite numbers of at least 0, not all 0, got {weights!r}. "
            f"For equal shares leave it out."
        )
    return values


def _counts(like: Sequence[int] | npt.NDArray[np.integer] | torch.Tensor, num_classes: int) -> npt.NDArray[np.float64]:
    labels = np.asarray(like.cpu() if isinstance(like, torch.Tensor) else like)
    if labels.ndim != 1 or len(labels) == 0 or labels.dtype.kind not in "iu":
        raise ConfigurationError(
            f"`like` must be a non-empty list of integer labels, got shape {labels.shape} of {labels.dtype}. "
            "Pass the labels of the real data set, for example [sample['label'] for sample in dataset]."
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ConfigurationError(
            f"`like` must hold labels in [0, {num_classes}), got {labels.min()} to {labels.max()}. "
            f"Set num_classes={int(labels.max()) + 1} or correct the labels."
        )
    return np.bincount(labels, minlength=num_classes).astype(np.float64)


def _blocks(weights: npt.NDArray[np.float64]) -> tuple[int, npt.NDArray[np.float64]]:
    """Block length M, and upper edges of the classes' shares of [0, M); the last class in use reaches to infinity."""
    shares = np.cumsum(weights) / weights.sum()
    candidates = [*range(1, _LARGEST_BLOCK + 1), len(weights)]
    fits = (size for size in candidates if np.allclose(shares * size, np.round(shares * size), rtol=0, atol=1e-9))
    block = next(fits, _DEFAULT_BLOCK)
    edges = shares * block
    whole = np.round(edges)
    edges = np.where(np.abs(edges - whole) < 1e-9, whole, edges)
    edges[np.flatnonzero(weights)[-1] :] = math.inf
    return block, edges
