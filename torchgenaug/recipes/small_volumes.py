"""`SmallVolumes`: convolutions of volumes that bfloat16 gets wrong on a CPU are computed in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class SmallVolumes(TorchFunctionMode):
    """Within it, and within autocast on a CPU, kernels that are larger than their volume work in float32.

    oneDNN 3.12 (torch 2.13, AVX-512 with bfloat16) takes gradients of such weights from memory that nobody wrote, and
    writes beyond its own: ``conv3d`` of a volume of 2 voxels a side with a kernel of 3 and a padding of 1 has weight
    gradients of 1e34, NaN, or silently wrong ones. The deepest levels of small volumes have such sizes. Two-dimensional
    convolutions are right, as are float32 and GPUs.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        in_half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        if func not in (functional.conv3d, functional.conv_transpose3d) or not in_half:
            return func(*args, **given)
        weight = given["weight"] if "weight" in given else args[1]
        if all(side >= reach for side, reach in zip(_large(func, args, given), weight.shape[2:], strict=True)):
            return func(*args, **given)
        with torch.autocast("cpu", enabled=False):
            made: Tensor = func(*map(_exact, args), **{name: _exact(each) for name, each in given.items()})
        return made.to(torch.bfloat16)


def _large(func: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]) -> torch.Size:
    """Sides of the input; of a transposed convolution, which is the gradient of one, those of its output."""
    if func is functional.conv3d:
        images: Tensor = given["input"] if "input" in given else args[0]
    else:
        images = func(*map(_shape_only, args), **{name: _shape_only(each) for name, each in given.items()})
    return images.shape[-3:]


def _exact(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value


def _shape_only(value: Any) -> Any:
    return torch.empty_like(value, dtype=torch.float32, device="meta") if isinstance(value, Tensor) else value
