"""TorchIO transforms, or any callable, on samples of any layout, seeded per sample.

A transform draws from global random generators. Here each call sees them seeded by (seed, epoch, index), so that
augmentation does not depend on workers, batches or what ran before; and nobody else sees them change (`random_state`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.samples.layout import SampleLayout
from torchgenaug.samples.monai_traces import copied_transform, name_originals
from torchgenaug.samples.random_sources import draws_from_torch_only, is_torchio_transform, keeps_to_torch
from torchgenaug.samples.random_state import is_main_thread, seeded
from torchgenaug.samples.torchio_values import is_subject
from torchgenaug.seeding import UInt64Array
from torchgenaug.types import FieldKind


class SeededTransform:
    """Applies one transform to samples of a layout; the same seed gives the same result.

    A TorchIO transform gets a Subject with all images of the sample, so that image and mask move together. Tensors of
    shape (C, H, W), and masks without a channel axis, get singleton axes for it and lose them again. float16 is
    computed in float32 and comes back; labels are moved by nearest neighbour and stay integers; images of an integer
    dtype become what TorchIO makes of them, float32. Any other callable gets a shallow copy of the sample as the real
    data set hands it out, and must return one of the same kind.

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
        self._originals: dict[int, int] = {}
        if callable(getattr(transform, "set_random_state", None)):  # MONAI's: seeding would change the user's object
            self.transform, self._originals = copied_transform(transform)
        self._torchio = is_torchio_transform(transform)
        self._torch_only = self._torchio and draws_from_torch_only(transform)
        if self._torchio:
            from torchgenaug.samples.torchio_copies import without_copies
            from torchgenaug.samples.torchio_noise import with_own_noise

            self.transform = with_own_noise(transform)
            self._copies = bool(getattr(transform, "copy", True))
            self._on_copies = without_copies(self.transform) if self._copies else self.transform

    def __call__(self, samples: Sequence[Any], seeds: UInt64Array) -> list[Any]:
        """The transformed samples; sample k sees random generators seeded with ``seeds[k]``."""
        if not is_main_thread() and not keeps_to_torch(self.transform):
            raise ConfigurationError(
                "A transform that runs in a thread, such as that of a pool, must surely draw from torch, or from a "
                f"random state of its own, got {self.transform!r}. It may set or draw from a global generator, from "
                "which the training loop draws at the same time. Use SyntheticPool(..., background='process') or "
                "background=False; TorchIO's own transforms can run in a thread, and MONAI's."
            )
        apply = self._apply_torchio if self._torchio else self._apply_function
        reseed = getattr(self.transform, "set_random_state", None)  # MONAI's transforms have a generator of their own
        results = []
        with seeded(torch_only=self._torch_only) as reseed_global:
            for sample, seed in zip(samples, seeds.tolist(), strict=True):
                reseed_global(seed)
                if callable(reseed):
                    reseed(seed=seed & 0xFFFFFFFF)
                results.append(apply(sample))
        return results

    def _apply_function(self, sample: Any) -> Any:
        # A copy of the container: what a function assigns must not change the data set.
        if is_subject(sample):
            sample = type(sample)(dict(sample))
        elif isinstance(sample, (dict, list)):
            sample = copy.copy(sample)
        result = self.transform(sample)
        if result is None:
            raise ConfigurationError(
                f"A transform must return the sample, got None from {self.transform!r}. Did you forget `return`?"
            )
        if self._originals:
            name_originals(result, self._originals)
        return result

    def _apply_torchio(self, sample: Any) -> Any:
        if self.layout.crops and isinstance(sample, list):
            return [self._apply_to_one(part) for part in sample]
        return self._apply_to_one(sample)

    def _apply_to_one(self, sample: Any) -> Any:
        if self.layout.container == "subject":
            return self._apply_to_subject(sample)
        values = self.layout.split(sample)
        images = self._images(values)
        if not images:
            return sample
        import torchio as tio

        subject = tio.Subject(
            {
                name: (tio.LabelMap if self._is_label_map(name) else tio.ScalarImage)(
                    tensor=_to_4d(values[name], bare, copied=self._copies)
                )
                for name, bare in images.items()
            }
        )
        moved = self._on_copies(subject)
        changed = {
            name: _back(moved[name].data, values[name], bare, name, is_label_map=self._is_label_map(name))
            for name, bare in images.items()
        }
        return self.layout.join({**values, **changed}, sample)

    def _apply_to_subject(self, sample: Any) -> Any:
        import torchio as tio

        images = {name: value for name, value in sample.items() if isinstance(value, tio.Image)}
        dtypes = {name: value.data.dtype for name, value in images.items()}
        # Several transforms fail on float16; the Subject is the user's, so images are replaced in a copy.
        if any(dtype in (torch.float16, torch.bfloat16) for dtype in dtypes.values()):
            sample = type(sample)(dict(sample))
            for name, dtype in dtypes.items():
                if dtype in (torch.float16, torch.bfloat16):
                    sample[name] = type(sample[name])(tensor=sample[name].data.float(), affine=sample[name].affine)
        moved = self.transform(sample)
        for name, dtype in dtypes.items():
            if name in moved and moved[name].data.dtype != dtype:
                is_label_map = isinstance(images[name], tio.LabelMap)
                moved[name].set_data(_cast(moved[name].data, dtype, is_label_map=is_label_map))
        return moved

    def _images(self, values: Mapping[str, Any]) -> dict[str, bool]:
        """The fields that TorchIO is to move, and whether each lacks the channel axis, as masks often do."""
        arrays = {
            name: tuple(value.shape)
            for name, value in values.items()
            if self.kinds.get(name) != "scalar" and isinstance(value, (Tensor, np.ndarray)) and value.ndim >= 2
        }
        with_channels = [name for name, shape in arrays.items() if len(shape) in (3, 4)]
        intensities = [name for name in with_channels if not self._is_label_map(name)]
        spatial = next((arrays[name][1:] for name in [*intensities, *with_channels]), None)
        images = {}
        for name, shape in arrays.items():
            bare = len(shape) == 2 or shape == spatial
            if not bare and (len(shape) > 4 or (spatial is not None and len(shape) != len(spatial) + 1)):
                raise ConfigurationError(
                    f"Field {name!r} must have the shape (channels, *spatial), or that of the image without channels, "
                    f"for a TorchIO transform, got {shape} beside {spatial}. It would be moved along other axes than "
                    "the image. Reshape it in the data set."
                )
            images[name] = bare
        return images

    def _is_label_map(self, name: str) -> bool:
        return self.kinds.get(name) == "label_map"


def _to_4d(value: Any, bare: bool, *, copied: bool) -> Tensor:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value if value.flags.writeable else value.copy())
    tensor: Tensor = value.clone() if copied else value
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    if bare:
        tensor = tensor.unsqueeze(0)
    return tensor.unsqueeze(-1) if tensor.ndim == 3 else tensor


def _back(data: Tensor, original: Any, bare: bool, name: str, *, is_label_map: bool) -> Any:
    """The transformed image with the number of axes, the dtype and the type of the original."""
    if original.ndim + bare == 3:
        if data.shape[-1] != 1:
            raise ConfigurationError(
                f"A transform of 2D samples must leave one slice, got {tuple(data.shape)} for field {name!r}. "
                "Pass sizes with a last axis of 1, for example tio.Resize((64, 64, 1))."
            )
        data = data.squeeze(-1)
    if bare:
        data = data.squeeze(0)
    dtype = original.dtype if isinstance(original, Tensor) else torch.from_numpy(np.empty(0, original.dtype)).dtype
    data = _cast(data, dtype, is_label_map=is_label_map)
    return data if isinstance(original, Tensor) else data.numpy()


def _cast(data: Tensor, dtype: torch.dtype, *, is_label_map: bool) -> Tensor:
    """Labels and floating-point images get their dtype back; an integer image keeps what TorchIO made of it."""
    if dtype.is_floating_point or not data.dtype.is_floating_point:
        return data.to(dtype)
    return data.round().to(dtype) if is_label_map else data
