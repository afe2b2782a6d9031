"""`MixDistributedSampler`: splits a mix between processes so that each of them gets the exact ratio."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.plan.ranks import find_rank

_JOINT_ORDER = 2  # after those of the real and of the synthetic samples


class MixDistributedSampler(Sampler[int]):
    """Hands out the share of one process of a mix: as `DistributedSampler`, and with the same number of synthetic ones.

    `DistributedSampler` splits indices by chance: of 40 samples with 10 synthetic ones, two processes got 7 and 3. Here
    the real and the synthetic samples of an epoch are split one by one, so that the numbers of synthetic samples of two
    processes differ by one at most, and all samples of the epoch are read once. All processes hand out equally many:
    the surplus of a length that the number of processes does not divide is dropped, or repeated.

    Each pass is the next epoch of the mix; `set_epoch` overrules that, as for the mix itself.

    Args:
        mixed: the mix.
        num_replicas: number of processes; default: that of `torch.distributed`.
        rank: which of them this is.
        shuffle: shuffle anew in each epoch; otherwise in the order of indices.
        seed: decides the order, in [0, 2^63); the same in all processes.
        drop_last: drop the surplus rather than repeat samples.

    Raises:
        ConfigurationError: not a mix; a rank outside the number of processes.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> mixed = SyntheticMixDataset(TensorDataset(torch.rand(40, 1)), TensorDataset(torch.rand(9, 1)), 0.25,
        ...                             fields=("image",))
        >>> for rank in range(2):
        ...     print(mixed.is_synthetic(list(MixDistributedSampler(mixed, 2, rank))).sum())
        5
        5
    """

    def __init__(
        self,
        mixed: SyntheticMixDataset,
        num_replicas: int | None = None,
        rank: int | None = None,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if not isinstance(mixed, SyntheticMixDataset):
            raise ConfigurationError(
                f"`mixed` must be a SyntheticMixDataset, got {type(mixed).__name__}. Which of its samples are "
                "synthetic is not known. Use torch's DistributedSampler for any other data set."
            )
        self._mixed, self._shuffle, self._drop_last = mixed, shuffle, drop_last
        self.rank, self.num_replicas = find_rank(rank, num_replicas)
        self._seed = seeding.checked_seed(seed)
        self._next: int | None = None

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next pass, and so that of the mix."""
        self._next = epoch

    def __len__(self) -> int:
        return self._length(self._mixed.counts(self._next).total)

    def __iter__(self) -> Iterator[int]:
        if self._next is not None:
            self._mixed.set_epoch(self._next)
            self._next = None
        len(self._mixed)  # here a pass begins: the mix moves on, unless its epoch was set
        return iter(self.indices(self._mixed.epoch).tolist())

    def indices(self, epoch: int) -> seeding.Int64Array:
        """The share of this process of an epoch, in order: (len(self),) int64; moves nothing."""
        total = self._mixed.counts(epoch).total
        is_synthetic = self._mixed.plan.is_synthetic(np.arange(total), epoch)
        kinds = [np.flatnonzero(~is_synthetic), np.flatnonzero(is_synthetic)]
        if self._shuffle:
            kinds = [self._shuffled(kind, epoch, purpose) for purpose, kind in enumerate(kinds)]
        # Sample k of this sequence goes to process k mod n: so each kind, a stretch of it, is spread evenly.
        order = np.concatenate(kinds)
        wanted = self._length(total) * self.num_replicas
        order = np.concatenate([order, np.resize(order, max(0, wanted - len(order)))])[:wanted]
        share = order[self.rank :: self.num_replicas]
        return self._shuffled(share, epoch, _JOINT_ORDER) if self._shuffle else np.sort(share)

    def _length(self, total: int) -> int:
        return total // self.num_replicas if self._drop_last else -(-total // self.num_replicas)

    def _shuffled(self, indices: seeding.Int64Array, epoch: int, purpose: int) -> seeding.Int64Array:
        seed = int(seeding.derive(self._seed, purpose, epoch)) >> 1
        return indices[seeding.permutation(seed, len(indices))]
