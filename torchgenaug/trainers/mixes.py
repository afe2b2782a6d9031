"""`MixesOf`: the mixes inside a trainer's loaders, and what every trainer does with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.mixing.loader import SyntheticMixLoader
from torchgenaug.mixing.loader.order import LoaderOrder
from torchgenaug.pool import SyntheticPool
from torchgenaug.samples.inner_sets import inner_sets
from torchgenaug.trust.leaks.validation import generates

# Where loaders and data sets of torch, Lightning, accelerate, MONAI and TorchIO keep what they read from.
_INSIDE = ("loader", "dataset", "datasets", "data", "subjects_dataset", "iterables", "base_dataloader")
_DEPTH = 32


class MixesOf:
    """All mixes that can be reached from a loader, through lists, subsets, caches and other wrappers.

    Args:
        loaders: a loader, a data set, several of them in a list, tuple or dict, or None.

    Attributes:
        loaders: as given.
        mixes: the `SyntheticMixDataset` and `SyntheticMixLoader`, each once, in the order of the search.
        sources: synthetic sources, sequences and models that are read without a mix.
    """

    def __init__(self, loaders: Any) -> None:
        self.loaders = loaders
        found = list(_walk(loaders, _DEPTH, set()))
        self.mixes = [each for each in found if isinstance(each, SyntheticMixDataset | SyntheticMixLoader)]
        self.sources = [each for each in found if isinstance(each, SyntheticSource) or generates(each)]

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the mixes, and of the samplers of the loaders, as far as they have one."""
        for loader in _loaders(self.loaders):
            for sampler in LoaderOrder(loader).samplers():
                move = getattr(sampler, "set_epoch", None)
                if callable(move):
                    move(epoch)
        for mix in self.mixes:
            mix.set_epoch(epoch)

    def close_pools(self) -> None:
        """Closes the pools of the mixes, which then give their memory back."""
        for mix in self.mixes:
            if isinstance(mix.source, SyntheticPool):
                mix.source.close()

    def refuse(self, purpose: str) -> None:
        """Raises `ConfigurationError` if anything of it is synthetic.

        Args:
            purpose: what the data are for, such as ``"validation"``.
        """
        synthetic = [mix for mix in self.mixes if isinstance(mix, SyntheticMixLoader) or _draws(mix)]
        for each in [*synthetic, *self.sources]:
            raise ConfigurationError(
                f"{purpose.capitalize()} data must be real, got {type(each).__name__}. A score on generated images "
                "says how well they are imitated, not how well the model works. Give the real data set itself, "
                "without a mix."
            )


def _draws(mix: SyntheticMixDataset) -> bool:
    return callable(mix.plan.ratio) or mix.counts().synthetic > 0


def _loaders(loaders: Any) -> list[Any]:
    """The loaders in a trainer's collection."""
    inside = getattr(loaders, "iterables", loaders)
    if isinstance(inside, Mapping):
        inside = list(inside.values())
    return list(inside) if isinstance(inside, list | tuple) else [inside]


def _walk(thing: Any, depth: int, seen: set[int]) -> Iterator[Any]:
    if thing is None or depth < 0 or id(thing) in seen or isinstance(thing, str | bytes | int | float):
        return
    seen.add(id(thing))
    if isinstance(thing, SyntheticMixDataset | SyntheticMixLoader | SyntheticSource):
        yield thing
    if generates(thing):
        yield thing
        return
    if isinstance(thing, SyntheticMixDataset | SyntheticSource):
        return
    if isinstance(thing, Mapping):
        thing = list(thing.values())
    if isinstance(thing, list | tuple):
        parts = [part for part in thing[:64] if hasattr(part, "__dict__") or isinstance(part, list | tuple | Mapping)]
    else:
        parts = [getattr(thing, name, None) for name in _INSIDE]
        parts += inner_sets(thing, generates)
    for part in parts:
        yield from _walk(part, depth - 1, seen)
