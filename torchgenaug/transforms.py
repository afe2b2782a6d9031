"""TorchIO transforms, or any callable, on samples of any layout, seeded per sample.

A transform draws from global random generators. Here each call sees them seeded by (seed, epoch, index) and finds them
as they were afterwards, so that augmentation does not depend on workers, batches or what ran before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.samples import SampleLayout
from torchgenaug.seeding import UInt64Array
from torchgenaug.types import FieldKind


def is_torchio_transform(transform: object) -> bool:
    """Whether `transform` is a TorchIO transform, without importing torchio."""
    return any(
        base.__name__ == "Transform" and base.__module__.startswith("torchio.") for base in type(transform).__mro__
    )


class SeededTransform:
    """Applies one transform to samples of a layout; the same seed gives the same result.

    A TorchIO transform gets a Subject with all images of the sample, so that image and mask move together. Tensors of
    shape (C, H, W) get a singleton axis for it and lose it again, float16 is computed in float32, and every field
    comes back with its own dtype (labels are moved by nearest neighbour and stay integers). Any other callable gets
    the sample as the real data set hands it out, and must return one of the same kind.

    Picklable if the transform is.

    Args:
        transform: a TorchIO transform, or a function sample → sample.
        layout: layout of the samples.
        kinds: field → kind; decides between `ScalarImage` and `LabelMap`.

    Raises:
        ConfigurationError: not callable.
    """

    def __init__(self, transform: Callable[[Any], Any], layout: SampleLayout, kinds: Mapping[str, FieldKind]) -> None:
        if not callable(transform):
            raise ConfigurationError(
                f"A transform must be a function sample -> sample, got {type(transform).__name__}."
            )
        self.transform, self.layout, self.kinds = transform, layout, dict(kinds)
        self._torchio = is_torchio_transform(transform)

    def __call__(self, samples: Sequence[Any], seeds: UInt64Array) -> list[Any]:
        """The transformed samples; sample k sees random generators seeded with ``seeds[k]``."""
        apply = self._apply_torchio if self._torchio else self.transform
        results = []
        with random_state_restored(torch_only=self._torchio):
            for sample, seed in zip(samples, seeds.tolist(), strict=True):
                # default_generator: torch.manual_seed costs 80 times as much, because it visits every device.
                torch.default_generator.manual_seed(seed)
                if not self._torchio:
                    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002 (foreign transforms draw from it)
                    random.seed(seed)
                results.append(apply(sample))
        return results

    def _apply_torchio(self, sample: Any) -> Any:
        if self.layout.container == "subject":
            return self._apply_to_subject(sample)
        values = self.layout.split(sample)
        images = {name: value for name, value in values.items() if self._is_image(name, value)}
        if not images:
            return sample
        import torchio as tio

        subject = tio.Subject(
            {
                name: (tio.LabelMap if self.kinds.get(name) == "label_map" else tio.ScalarImage)(tensor=_to_4d(value))
                for name, value in images.items()
            }
        )
        moved = self.transform(subject)
        changed = {name: _back(moved[name].data, value, name) for name, value in images.items()}
        return self.layout.join({**values, **changed}, sample)

    def _apply_to_subject(self, sample: Any) -> Any:
        import torchio as tio

        dtypes = {name: value.data.dtype for name, value in sample.items() if isinstance(value, tio.Image)}
        # Several transforms fail on float16; the Subject is the user's, so images are replaced in a copy.
        if any(dtype in (torch.float16, torch.bfloat16) for dtype in dtypes.values()):
            sample = type(sample)(dict(sample))
            for name, dtype in dtypes.items():
                if dtype in (torch.float16, torch.bfloat16):
                    sample[name] = type(sample[name])(tensor=sample[name].data.float(), affine=sample[name].affine)
        moved = self.transform(sample)
        for name, dtype in dtypes.items():
            if name in moved and moved[name].data.dtype != dtype:
                moved[name].set_data(_cast(moved[name].data, dtype))
        return moved

    def _is_image(self, name: str, value: Any) -> bool:
        kind = self.kinds.get(name)
        return kind != "scalar" and isinstance(value, (Tensor, np.ndarray)) and value.ndim in (3, 4)


def _to_4d(value: Any) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(value)
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    return tensor.unsqueeze(-1) if tensor.ndim == 3 else tensor


def _back(data: Tensor, original: Any, name: str) -> Any:
    """The transformed image with the number of axes, the dtype and the type of the original."""
    if original.ndim == 3:
        if data.shape[-1] != 1:
            raise ConfigurationError(
                f"A transform of 2D samples must leave one slice, got {tuple(data.shape)} for field {name!r}. "
                "Pass sizes with a last axis of 1, for example tio.Resize((64, 64, 1))."
            )
        data = data.squeeze(-1)
    if isinstance(original, Tensor):
        return _cast(data, original.dtype)
    return data.numpy().astype(original.dtype, copy=False)


def _cast(data: Tensor, dtype: torch.dtype) -> Tensor:
    if data.dtype.is_floating_point and not dtype.is_floating_point:
        data = data.round()
    return data.to(dtype)


@contextmanager
def random_state_restored(*, torch_only: bool) -> Iterator[None]:
    """Puts the global generators back (numpy's and Python's only if they will be touched: they cost 60 µs)."""
    torch_state = torch.get_rng_state()
    others = None if torch_only else (np.random.get_state(), random.getstate())  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        if others is not None:
            np.random.set_state(others[0])  # noqa: NPY002
            random.setstate(others[1])
