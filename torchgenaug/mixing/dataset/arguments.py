"""Checks of the data sets that a mix is given."""

from __future__ import annotations

import os

import torch

from torchgenaug.contracts import Synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.sequence.sequence import SyntheticSequence


def check_map_style(dataset: object, name: str) -> None:
    """Raises `ConfigurationError` unless `dataset`, the argument `name`, can be read by index."""
    if isinstance(dataset, SyntheticSequence):
        raise ConfigurationError(
            "`synthetic` must be a source that holds samples ready, got a SyntheticSequence, which makes them one call "
            "at a time. Wrap it: SyntheticPool(sequence, capacity=256), or render_shards(sequence, 'shards', 1000)."
        )
    if isinstance(dataset, (str, os.PathLike)):
        raise ConfigurationError(
            f"`{name}` must be a data set, got the path {str(dataset)!r}. Open it first: ShardSource({str(dataset)!r})."
        )
    if isinstance(dataset, Synthesizer):
        raise ConfigurationError(
            f"`{name}` must be a source that holds samples ready, got a synthesizer. "
            "Wrap it: SyntheticPool(SyntheticSequence(synthesizer), capacity=256)."
        )
    if isinstance(dataset, torch.nn.Module):
        raise ConfigurationError(
            f"`{name}` must be a data set, got the network {type(dataset).__name__}. Wrap it as a synthesizer first: "
            "SyntheticPool(SyntheticSequence(ModuleSynthesizer(network, ...)), capacity=256)."
        )
    readable = hasattr(dataset, "__getitem__") or (name == "synthetic" and hasattr(dataset, "read"))
    if not (readable and hasattr(dataset, "__len__")):
        raise ConfigurationError(
            f"`{name}` must be a map-style data set (with __getitem__ and __len__), got {type(dataset).__name__}. "
            "An iterable data set has no indices to replace; load it into a list, or wrap its DataLoader."
        )


def holds(dataset: object, kind: type, depth: int = 8) -> bool:
    """Whether a data set is a `kind`, or wraps one: `Subset`, `ConcatDataset`, MONAI's `Dataset` and the like."""
    if isinstance(dataset, kind):
        return True
    if depth == 0 or isinstance(dataset, (torch.Tensor, str)):
        return False
    inside = [getattr(dataset, name, None) for name in ("dataset", "data", "real")]
    several = getattr(dataset, "datasets", None)
    inside += several if isinstance(several, (list, tuple)) else []
    return any(part is not None and holds(part, kind, depth - 1) for part in inside)
