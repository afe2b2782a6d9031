"""Builds the networks of model folders: with random numbers of their own, and no larger than their weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from torchgenaug.errors import SynthesizerLoadError

MAX_INTEGER = 1 << 20
"""Largest integer that the configuration of a network or scheduler may hold: widths, depths, sizes, vocabularies."""

MAX_TIMESTEPS = 100_000
"""Largest integer of a scheduler's configuration: diffusion models are trained with about 1,000 noise levels."""

# Where a larger number is only a scale, which nothing is allocated or looped by.
_UNBOUNDED = frozenset({"base_img_size_numel"})
_MAX_TENSORS = 20_000
_SPARE_ELEMENTS = 16 << 20  # tables that are not saved, and values on the way to others

_RANDOM: Mapping[Any, Any] = {
    **dict.fromkeys((torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli)),
    **dict.fromkeys((torch.multinomial, torch.rand_like, torch.randn_like, torch.randint_like)),
    **dict.fromkeys((Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.exponential_, Tensor.bernoulli_)),
    **dict.fromkeys((Tensor.cauchy_, Tensor.geometric_, Tensor.log_normal_, Tensor.bernoulli, Tensor.multinomial)),
}
# Functions of torch.nn.init call the others while the mode is off, and hand a generator on.
_INITS = frozenset(
    function
    for name, function in vars(torch.nn.init).items()
    if name.endswith("_") and callable(function) and "generator" in inspect.signature(function).parameters
)
_LIKE = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}
_SIZED = frozenset({torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full, torch.arange})
_STEPPED = frozenset({torch.linspace, torch.logspace})


class Construction(TorchFunctionMode):
    """While it is active in a thread, torch's random numbers come from a generator of its own.

    torch's global generators, which belong to the training run, stay as they are; other threads notice nothing.

    Args:
        shapes: of the weights that the network will be given. What is built may be four times as large, and is refused
            before memory for more is taken; None: no limit.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> None:
        super().__init__()
        self._generators: dict[torch.device, torch.Generator] = {}
        self._elements: float = math.inf
        self._tensors: float = math.inf
        if shapes is not None:
            self._elements = 4 * sum(math.prod(shape) for shape in shapes.values()) + _SPARE_ELEMENTS
            self._tensors = min(_MAX_TENSORS, 4 * len(shapes) + 500)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """One call of a function of torch."""
        options = dict(kwargs or {})
        if func in _SIZED or func in _STEPPED:
            self._count(func, args, options)
        if (func not in _RANDOM and func not in _INITS) or options.get("generator") is not None:
            return func(*args, **options)
        if func in _LIKE:
            like = args[0]
            options = {"dtype": like.dtype, "device": like.device, "layout": like.layout} | options
            func, args = _LIKE[func], (like.shape, *args[1:])
            options.pop("memory_format", None)
        first = next((each for each in (*args, *options.values()) if isinstance(each, Tensor)), None)
        device = torch.device(options.get("device") or (torch.get_default_device() if first is None else first.device))
        if func is torch.randint_like:
            return torch.empty_like(args[0], **options).random_(*args[1:], generator=self._generator(device))
        if device.type == "meta":
            return func(*args, **options)
        return func(*args, **options | {"generator": self._generator(device)})

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(0)
        return self._generators[device]

    def _count(self, func: Callable[..., Any], args: Any, options: Mapping[str, Any]) -> None:
        if self._elements == math.inf:
            return
        plain = {key: value for key, value in options.items() if key not in ("generator", "out", "pin_memory")}
        size = func(*args, **plain | {"device": "meta"}).numel()
        self._elements -= size
        self._tensors -= 1
        if self._elements < 0 or self._tensors < 0:
            raise SynthesizerLoadError(
                "A network must not be larger than its weights, got a configuration that asks for far more tensors "
                "than the weights have. Take weights and configuration from the same model."
            )


def check_numbers(value: Any, place: str, limit: int = MAX_INTEGER) -> None:
    """Raises `SynthesizerLoadError` where a configuration holds a number larger than `limit`.

    Infinity passes: it is the default of some limits of schedulers, and no size.
    """
    pending = [("", value)]
    while pending:
        name, each = pending.pop()
        if isinstance(each, dict):
            pending += [(str(key), inner) for key, inner in each.items() if key not in _UNBOUNDED]
        elif isinstance(each, list | tuple):
            pending += [(name, inner) for inner in each]
        elif isinstance(each, int | float) and not isinstance(each, bool) and limit < abs(each) < math.inf:
            raise SynthesizerLoadError(
                f"Numbers of a configuration must be at most {limit:,}, got {name}={str(each)[:40]} at "
                f"{place}. Nothing was built. Correct the configuration, or build the model yourself."
            )
