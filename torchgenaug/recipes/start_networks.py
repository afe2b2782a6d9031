"""Which networks of a recipe a saved synthesizer holds: what training that starts from it begins with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.recipes.recipe import Recipe


def networks_of(synthesizer: Any) -> dict[str, nn.Module]:
    """Those of a synthesizer and of the parts that it joins."""
    stored = synthesizer.stored()
    found = dict(stored.networks)
    for name, part in stored.parts.items():
        found |= {f"{name}.{key}": network for key, network in networks_of(part).items()}
    return found


def sampled_weights(recipe: Recipe, stored: Mapping[str, nn.Module]) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """(name in the recipe, its weights) of the networks that a synthesizer of this recipe samples with.

    Args:
        recipe: with fresh weights.
        stored: networks of a synthesizer, as `networks_of` returns them.
    """
    fresh: dict[str, nn.Module] | None = None
    for key, network in stored.items():
        weights = network.state_dict()
        alike = [name for name, mine in recipe.networks.items() if type(mine) is type(network)]
        fitting = [name for name in alike if difference(recipe.networks[name].state_dict(), weights) is None]
        if len(fitting) == 1:
            yield fitting[0], weights
        elif fitting or not alike:
            # One of several, such as both ways of a translation, or several as one, such as codes and their priors:
            # what a synthesizer of the fresh recipe has in its place shows which. Not for the others: some fit a prior.
            fresh = networks_of(recipe.synthesizer(recipe.networks)) if fresh is None else fresh
            if key in fresh:
                yield from _places(recipe, fresh[key].state_dict(), weights)


def _places(
    recipe: Recipe, fresh: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """The networks of the recipe whose values are in `fresh`, and `weights` in their place."""
    prefixes = ["", *dict.fromkeys(f"{name.partition('.')[0]}." for name in fresh if "." in name)]
    for name, mine in recipe.networks.items():
        trained = dict(mine.named_parameters())
        for prefix in prefixes if trained else ():
            if all(_equal(value, fresh.get(prefix + key)) for key, value in trained.items()):
                inside = {key: weights[prefix + key] for key in mine.state_dict() if prefix + key in weights}
                yield name, inside
                break


def _equal(mine: Tensor, other: Tensor | None) -> bool:
    return other is not None and torch.equal(mine.detach().cpu(), other.cpu())


def difference(mine: Mapping[str, Tensor], its: Mapping[str, Tensor]) -> str | None:
    """The first difference of names or shapes; None if there is none."""
    for name in dict.fromkeys([*mine, *its]):
        here, there = (
            "no such weight" if each is None else str(tuple(each.shape)) for each in (mine.get(name), its.get(name))
        )
        if here != there:
            return f"{name}: {there} there, {here} here"
    return None
