"""Random numbers of its own for a piece of foreign code that draws from the global generators.

In the main thread the global generators of torch (CPU), numpy and Python are seeded, and put back afterwards. Any other
thread runs along with a training loop that may be drawing at this moment: there the global generators are not touched.
torch's functions are given a generator of the thread's own, which draws the same numbers.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

Reseed = Callable[[int], None]

_DRAWING = frozenset(
    [
        "rand",
        "randn",
        "randint",
        "randperm",
        "normal",
        "bernoulli",
        "multinomial",
        "poisson",
        "rand_like",
        "randn_like",
        "randint_like",
        "uniform_",
        "normal_",
        "random_",
        "bernoulli_",
        "exponential_",
        "log_normal_",
        "cauchy_",
        "geometric_",
    ]
)
_LIKE = {"rand_like": torch.rand, "randn_like": torch.randn}


def is_main_thread() -> bool:
    """Whether this is the thread that the process began with: a training loop's, or a worker's."""
    return threading.current_thread() is threading.main_thread()


class _OwnGenerator(TorchFunctionMode):
    """Gives a generator to each function of torch that draws in this thread, if it has none."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator()

    def reseed(self, seed: int) -> None:
        """Begins the numbers of `seed`."""
        self.generator.manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name not in _DRAWING or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        if name in _LIKE:
            like = args[0] if args else kwargs.pop("input")
            options = {"dtype": like.dtype, "device": like.device, **kwargs}
            options.pop("memory_format", None)
            return _LIKE[name](like.shape, generator=self.generator, **options)
        if name == "randint_like":
            like, *limits = args
            low, high = limits if len(limits) == 2 else (0, *limits)
            drawn = torch.randint(low, high, like.shape, generator=self.generator, device=like.device)
            return drawn.to(kwargs.get("dtype") or like.dtype)
        return func(*args, **kwargs, generator=self.generator)


@contextmanager
def seeded(*, torch_only: bool) -> Iterator[Reseed]:
    """Lets a function draw the same numbers for the same seed, without moving a global random state.

    Args:
        torch_only: whether nothing but torch's functions is drawn from. In another thread than the main one it is
            taken for granted.

    Yields:
        seed → None: sets all generators that the function may see.
    """
    if not is_main_thread():
        mode = _OwnGenerator()
        with mode:
            yield mode.reseed
        return
    with random_state_restored(torch_only=torch_only):
        yield _reseed_torch if torch_only else _reseed_all


def _reseed_torch(seed: int) -> None:
    # default_generator: torch.manual_seed costs 80 times as much, because it visits every device. It keeps only the
    # low 32 bits of a seed, each of which depends on all bits of the keys (see `seeding.derive`).
    torch.default_generator.manual_seed(seed)


def _reseed_all(seed: int) -> None:
    _reseed_torch(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002 (foreign transforms draw from it)
    random.seed(seed)


@contextmanager
def random_state_restored(*, torch_only: bool = False) -> Iterator[None]:
    """Puts the global generators of torch (CPU) and, unless `torch_only`, numpy and Python back as they were.

    Does nothing in another thread than the main one, where that would undo what the main one draws meanwhile.
    """
    if not is_main_thread():
        yield
        return
    torch_state = torch.get_rng_state()
    others = None if torch_only else (np.random.get_state(), random.getstate())  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        if others is not None:
            np.random.set_state(others[0])  # noqa: NPY002
            random.setstate(others[1])
