"""Collects the values of each field over all samples, and derives its value range, its classes, or an error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.resize import target_size
from torchgenaug.recipes.data.training_data import UNLABELLED
from torchgenaug.types import FieldSpec

_LOW, _HIGH = 0.0005, 0.9995  # quantiles between which values are no outliers
_FAR = 0.5  # an outlier lies farther beyond a quantile than half of what lies between them
_DRAWN = 2_000_000  # values that quantiles are taken of

Places = Callable[[int], str]


class ImageColumn:
    """Images or sources: shapes, dtype, finite values, range.

    Args:
        name: of the field.
        places: where sample k is, for errors.
        count: how many samples there will be.
    """

    def __init__(self, name: str, places: Places, count: int) -> None:
        self.name, self.places = name, places
        self.remarks: list[str] = []
        self.offenders: list[tuple[int, tuple[int, ...]]] = []
        self._shape: tuple[int, ...] = ()
        self._largest = 0
        self._num_offenders = 0
        self._is_bytes = False
        self._low, self._high = np.inf, -np.inf
        self._drawn: list[Tensor] = []
        self._per_sample = max(64, _DRAWN // count)
        self._draw = torch.Generator().manual_seed(0)

    def see(self, index: int, values: Tensor, image: Tensor) -> None:
        """Takes note of sample `index`, whose image is `image`."""
        shape, is_bytes = tuple(values.shape), values.dtype == torch.uint8
        if not self._shape:
            self._shape, self._is_bytes = shape, is_bytes
        self._check(index, values, image)
        self._largest = max(self._largest, *shape[1:])
        if shape != self._shape:
            self._num_offenders += 1
            if len(self.offenders) < 3:
                self.offenders.append((index, shape))
        if not is_bytes:
            low, high = (float(limit) for limit in values.aminmax())
            self._low, self._high = min(self._low, low), max(self._high, high)
            flat = values.reshape(-1)
            if len(flat) > self._per_sample:
                flat = flat[torch.randint(len(flat), (self._per_sample,), generator=self._draw)]
            self._drawn.append(flat.float())
        elif self._low == np.inf or self._low == self._high:
            low, high = (int(limit) for limit in values.aminmax())
            self._low, self._high = min(self._low, low), max(self._high, high)

    def check_sizes(self, resized: bool) -> None:
        """Raises `ConfigurationError` where images differ in size, unless they are `resized`."""
        if self.offenders and not resized:
            shown = ", ".join(f"{shape[1:]} at {self.places(index)}" for index, shape in self.offenders)
            size = target_size((self._largest,), None)[0]
            raise ConfigurationError(
                f"All {self.name}s must have the size of the first one, {self._shape[1:]}, got {self._num_offenders} "
                f"of another: {shown}. Bring all to one size with --size {size} (size={size}), or smaller."
            )

    def spec(self, size: tuple[int, ...]) -> FieldSpec:
        """The field at spatial size `size`; values beyond its range are to be cut."""
        if self._low == self._high:
            raise ConfigurationError(
                f"The {self.name}s must not all be constant, got {self._low:g} everywhere. Check how they are read."
            )
        limits = (0.0, 1.0) if self._is_bytes else self._range()
        return FieldSpec((self._shape[0], *size), value_range=limits)

    def _range(self) -> tuple[float, float]:
        low, high = self._low, self._high
        values = np.concatenate([each.numpy() for each in self._drawn])
        inner_low, inner_high = (float(limit) for limit in np.quantile(values, (_LOW, _HIGH)))
        margin = _FAR * (inner_high - inner_low)
        if margin > 0:
            low = inner_low if low < inner_low - margin else low
            high = inner_high if high > inner_high + margin else high
        if (low, high) != (self._low, self._high):
            self.remarks.append(
                f"Values of the {self.name}s were cut to [{low:g}, {high:g}], the {_LOW:.2%} and {_HIGH:.2%} quantiles "
                f"where outliers lie beyond; they reached from {self._low:g} to {self._high:g}."
            )
        return low, high

    def _check(self, index: int, values: Tensor, image: Tensor) -> None:
        shape, place = tuple(values.shape), self.places(index)
        if (values.dtype == torch.uint8) != self._is_bytes:
            kinds = ("8-bit", "others")
            raise ConfigurationError(
                f"The {self.name}s must all be 8-bit or none, got {kinds[self._is_bytes]} at {place} after "
                f"{kinds[not self._is_bytes]}: their ranges differ. Save all with the same type."
            )
        if len(shape) not in (3, 4) or shape[0] > 16 or 0 in shape:
            raise ConfigurationError(
                f"The {self.name} must be (channels, height, width) or (channels, x, y, z) with at most 16 channels, "
                f"got {shape} at {place}. Move the channels to the front, or add an axis: image[None]."
            )
        if len(shape) != len(self._shape) or shape[0] != self._shape[0]:
            channels = {1: "grey", 3: "colour"}
            names = [
                f"{channels.get(each[0], f'{each[0]} channels')}, {len(each) - 1}D" for each in (self._shape, shape)
            ]
            raise ConfigurationError(
                f"The {self.name}s must all have the channels and axes of the first one ({names[0]}), got {names[1]}: "
                f"{shape} at {place}. Convert it, for example PIL.Image.open(path).convert('L').save(path) for "
                "grey, or leave it out."
            )
        if values.shape[1:] != image.shape[1:]:
            raise ConfigurationError(
                f"The {self.name} must have the size of its image, {tuple(image.shape[1:])}, got {shape[1:]} at "
                f"{place}. Resample it onto the grid of the image."
            )
        if values.dtype.is_floating_point and not bool(torch.isfinite(values).all()):
            bad = int((~torch.isfinite(values)).sum())
            raise ConfigurationError(
                f"The {self.name} must be finite, got {bad} NaN or infinite values at {place}. Replace them "
                "(numpy.nan_to_num), or leave the sample out."
            )


class LabelColumn:
    """Class labels: each number from 0 to the largest must be there."""

    def __init__(self, name: str, places: Places, count: int) -> None:
        self.name, self.places = name, places
        self.remarks: list[str] = []
        self._labels: list[int] = []

    def see(self, index: int, values: Tensor, image: Tensor) -> None:
        """Takes note of sample `index`; NaN stands for a class that is not known."""
        if values.is_floating_point() and values.numel() == 1 and bool(values.isnan()):
            self._labels.append(UNLABELLED)
            return
        whole = not values.dtype.is_floating_point and not values.dtype.is_complex
        if values.numel() != 1 or not whole or int(values) < 0:
            raise ConfigurationError(
                f"The label must be one whole number from 0, got {_short(values)} at {self.places(index)}. "
                "Return an int: 0, 1, 2, …; or None where the class is not known."
            )
        self._labels.append(int(values))

    @property
    def any_known(self) -> bool:
        """Whether the class of any sample is known."""
        return any(each != UNLABELLED for each in self._labels)

    def labels(self) -> Tensor:
        """(samples,) int64."""
        return torch.tensor(self._labels)

    def spec(self, size: tuple[int, ...]) -> FieldSpec:
        """The field."""
        known = [each for each in self._labels if each != UNLABELLED]
        if len(known) < len(self._labels):
            self.remarks.append(
                f"{len(self._labels) - len(known)} of {len(self._labels)} samples have no label. Families without "
                "--condition label use them; of the others some do, the rest refuse them."
            )
        counts: npt.NDArray[np.int64] = np.bincount(np.array(known))
        if len(counts) < 2:
            raise ConfigurationError(
                "Labels must be of two classes at least, got class 0 only. Leave the label out to train on one class."
            )
        missing = np.flatnonzero(counts == 0)
        if len(missing):
            raise ConfigurationError(
                f"Labels must be 0 to {len(counts) - 1} without gaps, got none of {missing[:10].tolist()}. "
                "Number the classes that are there: 0, 1, 2, …"
            )
        return FieldSpec((), torch.int64, kind="scalar", value_range=(0, len(counts) - 1))


def _short(values: Tensor) -> str:
    return f"{values.item()!r}" if values.numel() == 1 else f"a tensor of shape {tuple(values.shape)}"
