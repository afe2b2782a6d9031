"""Sizes of images that a network can halve as often as it needs to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def fitting_sizes(spatial: Sequence[int], factor_of: Callable[[Sequence[int]], int]) -> tuple[int, ...]:
    """The nearest sizes, none of them smaller, that are multiples of the factor that they themselves have.

    Args:
        spatial: sizes of an image.
        factor_of: sizes → what each of them must be a multiple of: a power of two that grows with the sizes.

    Example:
        Larger images are halved more often, so that the next multiple may still not do:

        >>> fitting_sizes((11, 18), lambda sizes: 4 if min(sizes) >= 12 else 2)
        (12, 20)
    """
    sizes = tuple(spatial)
    while any(size % factor_of(sizes) for size in sizes):
        factor = factor_of(sizes)
        sizes = tuple(math.ceil(size / factor) * factor for size in sizes)
    return sizes


def size_option(sizes: Sequence[int]) -> str:
    """``--size`` of the command line for these sizes."""
    return f"--size {','.join(map(str, sizes))}"
