"""`LoaderOrder`: what the order of a loader is drawn from, so that an interrupted pass can be begun once more."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, SequentialSampler

from torchgenaug.errors import ConfigurationError

_PRIVATE = (np.random.Generator, np.random.RandomState, random.Random)


class LoaderOrder:
    """The random generators that decide the order of a loader's batches; the loader is left as it is.

    They are the `torch.Generator` of its samplers; or, where a sampler has none, the global generators of torch, numpy
    and Python, as they are when the pass begins. An order that is fixed, or a function of the epoch, needs none.

    Args:
        loader: a `DataLoader`, or any iterable of batches.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def samplers(self) -> list[Any]:
        """The samplers of the loader, those inside of others included."""
        batch_sampler = getattr(self._loader, "batch_sampler", None)
        parts = [getattr(self._loader, "sampler", None), batch_sampler]
        while (batch_sampler := getattr(batch_sampler, "batch_sampler", None)) is not None:  # as accelerate nests them
            parts.append(batch_sampler)
        parts += [getattr(part, "sampler", None) for part in parts]  # a BatchSampler may be the sampler, too
        return list({id(part): part for part in parts if part is not None}.values())

    def generators(self) -> list[torch.Generator]:
        """The generators of the samplers and of the loader."""
        found = [getattr(part, "generator", None) for part in [*self.samplers(), self._loader]]
        return list({id(each): each for each in found if isinstance(each, torch.Generator)}.values())

    @property
    def is_global(self) -> bool:
        """Whether a sampler may draw from global generators."""
        return any(
            getattr(part, "generator", None) is None
            and not isinstance(part, SequentialSampler | BatchSampler)
            and not hasattr(part, "set_epoch")
            for part in self.samplers()
        )

    def describe(self) -> str:
        """What the order depends on, as a saved state holds it: another order could not go on where this one was."""
        parts = []
        for part in self.samplers():
            drawn = "own generator" if isinstance(getattr(part, "generator", None), torch.Generator) else ""
            drawn = "epoch" if hasattr(part, "set_epoch") else drawn  # accelerate's makes its generator later
            parts.append(f"{type(part).__name__}({drawn})")
        return " in ".join(parts) + (", global generators" if self.is_global else "")

    def check(self) -> None:
        """Raises `ConfigurationError` if a pass that is under way cannot be begun again."""
        self.check_prepared()
        for part in self.samplers():
            hidden = [name for name, value in vars(part).items() if isinstance(value, _PRIVATE)]
            if hidden and not hasattr(part, "set_epoch"):
                raise ConfigurationError(
                    f"`loader` must have an order that can be repeated, to go on in the middle of an epoch; got "
                    f"{type(part).__name__}, which shuffles with a generator of its own, {hidden[0]!r}. Give the "
                    "sampler a set_epoch that reseeds it, or a torch.Generator in its attribute `generator`."
                )

    def check_prepared(self) -> None:
        """Raises `ConfigurationError` for a loader of accelerate that keeps a state of its own."""
        if getattr(self._loader, "use_stateful_dataloader", False):
            raise ConfigurationError(
                "`loader` must be able to repeat its order, got a stateful loader of accelerate, which draws it too "
                "early (as of accelerate 1.15, it does not go on with a shuffled epoch). Prepare it with "
                "use_stateful_dataloader=False, the default, or give a StatefulDataLoader that is not prepared."
            )

    def states(self) -> list[Any]:
        """The states of the generators, those of the global ones last."""
        states: list[Any] = [generator.get_state() for generator in self.generators()]
        if self.is_global:
            states.append(_global_state())
        return states

    def set_states(self, states: Sequence[Any]) -> None:
        """Sets the generators of the samplers; the global ones are left to `as_then`."""
        for generator, state in zip(self.generators(), states, strict=False):
            generator.set_state(state)

    @contextmanager
    def as_then(self, states: Sequence[Any]) -> Iterator[None]:
        """Inside, the global generators are in the saved state; afterwards they are as before."""
        if not self.is_global or not states:
            yield
            return
        now = self.states()[-1]
        try:
            _set_global(states[-1])
            yield
        finally:
            _set_global(now)


def _global_state() -> dict[str, Any]:
    """In tensors and numbers, which `torch.load` reads with ``weights_only=True``."""
    _, keys, *rest = np.random.get_state()  # noqa: NPY002 (a user's sampler may draw from the global one)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "numpy": [torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "python": [version, torch.tensor(internal, dtype=torch.int64), gauss],
    }


def _set_global(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))
