"""Mixes synthetic samples into a data set (`SyntheticMixDataset`), or into its incomplete samples (`FillMissing`).

Each is imported when it is first named: `torchgenaug.mixing.provenance` needs a module of this room, and these need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchgenaug.lazy import lazy_exports

if TYPE_CHECKING:
    from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset as SyntheticMixDataset
    from torchgenaug.mixing.dataset.fill_missing import FillMissing as FillMissing
    from torchgenaug.mixing.dataset.rank_sampler import MixDistributedSampler as MixDistributedSampler

_HOMES = {"FillMissing": "fill_missing", "MixDistributedSampler": "rank_sampler", "SyntheticMixDataset": "dataset"}

__all__ = ["FillMissing", "MixDistributedSampler", "SyntheticMixDataset"]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
