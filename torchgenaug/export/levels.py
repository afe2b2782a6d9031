"""Intensities as whole numbers of 8 or 16 bits, and back: ``value = level * step + low``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.types import FieldSpec


@dataclass(frozen=True)
class Levels:
    """The map between the intensities of a field and whole numbers.

    Args:
        low: what level 0 stands for.
        step: difference of neighbouring levels; half of it is the largest error.
        highest: the largest level.
    """

    low: float
    step: float
    highest: int

    @classmethod
    def of(cls, name: str, spec: FieldSpec, bits: int, value_range: tuple[float, float] | None) -> Levels:
        """Levels over `value_range`, or over the range that the field states.

        Raises:
            ConfigurationError: a field without a range.
        """
        is_bool = spec.dtype == torch.bool
        limits = value_range or spec.value_range or ((0.0, 1.0) if is_bool else None)
        if limits is None:
            raise ConfigurationError(
                f"`value_range` must be given for field {name!r}, which states none. Whole numbers need to know what "
                "their smallest and largest stand for. For example value_range=(-1000, 2000), on the command line "
                "--value-range -1000 2000; format 'nifti' needs none."
            )
        highest = (1 << bits) - 1
        if not spec.dtype.is_floating_point and limits == (0.0, float(highest)):
            return cls(0.0, 1.0, highest)
        return cls(float(limits[0]), (float(limits[1]) - float(limits[0])) / highest, highest)

    def encode(self, values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
        """The nearest levels, and how many values lay outside and were clipped.

        Raises:
            ConfigurationError: values that are not finite, which have no level.
        """
        if not np.isfinite(values).all():
            raise ConfigurationError(
                "Intensities must be finite to become whole numbers, got NaN or infinity. They would turn black. Leave "
                "these samples out, or use format 'nifti'."
            )
        level = np.round((values.astype(np.float64) - self.low) / self.step)
        outside = int(((level < 0) | (level > self.highest)).sum())
        dtype = np.uint8 if self.highest < 256 else np.uint16
        return np.clip(level, 0, self.highest).astype(dtype), outside

    def to_json(self) -> dict[str, float]:
        """What a reader needs to get the intensities back."""
        return {"low": self.low, "step": self.step, "highest": self.highest}


def class_numbers(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A mask in the smallest type that holds its classes and that every viewer reads.

    Raises:
        ConfigurationError: negative classes, or more than 65,535.
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ConfigurationError(
            f"Field {name!r} must have classes from 0 to 65,535, got {low} to {high}. Other programs could not read "
            "them. Number the classes from 0."
        )
    return values.astype(np.uint8 if high < 256 else np.uint16)
