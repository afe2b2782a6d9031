"""Mixes synthetic samples into a data set (`SyntheticMixDataset`), or into its incomplete samples (`FillMissing`).

Each is imported when it is first named: `torchgenaug.mixing.provenance` needs a module of this room, and these need it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset as SyntheticMixDataset
    from torchgenaug.mixing.dataset.fill_missing import FillMissing as FillMissing
    from torchgenaug.mixing.dataset.rank_sampler import MixDistributedSampler as MixDistributedSampler

_HOMES = {"FillMissing": "fill_missing", "MixDistributedSampler": "rank_sampler", "SyntheticMixDataset": "dataset"}

__all__ = ["FillMissing", "MixDistributedSampler", "SyntheticMixDataset"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
