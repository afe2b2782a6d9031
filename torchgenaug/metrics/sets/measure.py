"""What a measure of two sets of feature vectors is: a function, and what must be known to read its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchgenaug.metrics.measurement import Better


@dataclass(frozen=True, slots=True)
class SetMeasure:
    """A measure of a synthetic set against a real set, as a value.

    Attributes:
        name: its usual abbreviation.
        function: (real, synthetic), each (count, features) → a number, or a named tuple of numbers of which `output` is
            one (several measures may share one computation).
        better: direction.
        bounds: smallest and largest possible value.
        source: publication.
        output: field of the named tuple; None: the function returns the number itself.
        minimum: images of each set below which it is refused.
        largest_n: images of each set beyond which it is computed on subsets; for measures whose time is quadratic.
        caution: (images, features) → why the number is unreliable at this size, or None.
    """

    name: str
    function: Callable[[Tensor, Tensor], Any]
    better: Better
    bounds: tuple[float, float]
    source: str
    output: str | None = None
    minimum: int = 2
    largest_n: int | None = None
    caution: Callable[[int, int], str | None] | None = None

    def read(self, outputs: Any) -> float:
        """The number of this measure in what `function` returned."""
        return float(outputs if self.output is None else getattr(outputs, self.output))
