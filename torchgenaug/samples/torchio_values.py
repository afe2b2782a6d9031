"""What TorchIO's types hold, found without importing TorchIO."""

from __future__ import annotations

from typing import Any


def is_subject(sample: object) -> bool:
    """Whether `sample` is a `torchio.Subject`, without importing torchio."""
    return any(base.__name__ == "Subject" and base.__module__.startswith("torchio.") for base in type(sample).__mro__)


def is_image(value: Any) -> bool:
    """Whether `value` is a `torchio.Image`, without importing torchio."""
    return type(value).__module__.startswith("torchio.") and hasattr(value, "affine")


def plain(value: Any) -> Any:
    """The tensor of a torchio image; anything else as it is."""
    if type(value).__module__.startswith("torchio.") and hasattr(value, "data"):
        return value.data
    return value
