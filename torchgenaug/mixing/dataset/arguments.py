"""Checks of the data sets that a mix is given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Subset

from torchgenaug.contracts import Synthesizer, SyntheticSource
from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.samples.inner_sets import find_inside
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
    if isinstance(dataset, Mapping):
        raise ConfigurationError(
            f"`{name}` must be a data set that is read by the numbers 0, 1, 2, …, got a {type(dataset).__name__} of "
            f"{len(dataset)} keys. Give its values: list({name}.values())."
        )
    readable = hasattr(dataset, "__getitem__") or (name == "synthetic" and hasattr(dataset, "read"))
    if not (readable and hasattr(dataset, "__len__")):
        raise ConfigurationError(
            f"`{name}` must be a map-style data set (with __getitem__ and __len__), got {type(dataset).__name__}. "
            "An iterable data set has no indices to replace; load it into a list, or wrap its DataLoader."
        )


def check_both_sets(real: Any, synthetic: Any, mix: type) -> None:
    """Raises unless `real` is a map-style data set of real samples, at least one, and `synthetic` one without them.

    Args:
        real: the argument `real`.
        synthetic: the argument `synthetic`.
        mix: the class of a mix, which is neither.

    Raises:
        ConfigurationError: no data set that is read by index, or one that is or wraps a mix; a source of synthetic
            samples as `real`.
        EmptyDatasetError: no real samples.
    """
    check_map_style(real, "real")
    found = find_inside(real, (mix,)) or _source_handed_on(real)
    if found is not None:
        raise ConfigurationError(
            f"`real` must hold real samples, got a {type(found).__name__}{_place(found, real)}. Its synthetic samples "
            "would be called real. Mix once, with CombinedSource([source, ...], weights=[...]) for several synthetic "
            "sources."
        )
    if len(real) == 0:
        raise EmptyDatasetError("`real` is empty. There is nothing to mix into; check its path or split.")
    check_map_style(synthetic, "synthetic")
    found = None if isinstance(synthetic, SyntheticSource) else find_inside(synthetic, (mix,))
    if found is not None:
        raise ConfigurationError(
            f"`synthetic` must hold synthetic samples only, got a {type(found).__name__}{_place(found, synthetic)}. "
            "Its real samples would be called synthetic. Give what it mixes in instead: its `source`."
        )


def _source_handed_on(dataset: Any) -> SyntheticSource | None:
    """The synthetic source that a data set is, or whose samples torch's own wrappers hand on as theirs.

    Not one inside a class of another kind: `FillMissing` completes real samples from it, and a class of the user's may
    paste a lesion from it into a real image.
    """
    if isinstance(dataset, SyntheticSource):
        return dataset
    inner: list[Any] = [*dataset.datasets] if isinstance(dataset, ConcatDataset) else []
    inner += [dataset.dataset] if isinstance(dataset, Subset) else []
    return next(filter(None, map(_source_handed_on, inner)), None)


def _place(found: object, dataset: object) -> str:
    return "" if found is dataset else f" inside a {type(dataset).__name__}"


def check_one_window(source: object) -> None:
    """Raises `ConfigurationError` for a source whose content changes within an epoch."""
    refreshes = getattr(source, "refreshes_per_epoch", 1)
    if refreshes > 1:
        raise ConfigurationError(
            f"`synthetic` must hold one window of samples per epoch, got refreshes_per_epoch={refreshes}. A "
            "sampler asks for the samples of an epoch in any order, and workers ask ahead of the training loop, so "
            "all its windows would be needed at once. Use SyntheticMixLoader(loader, pool), which knows the order; "
            "or refreshes_per_epoch=1 and shorter epochs: RandomSampler(mixed, num_samples=len(mixed) // 4), with "
            "a set_epoch for each."
        )
