"""The result of one measure: its value, and what is needed to read it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Better: TypeAlias = Literal["higher", "lower"]
"""Which direction of a measure is the better one."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured number with its uncertainty and its reference values.

    Attributes:
        name: the measure with the features it was computed on, for example ``"FID[efficientnet-lite0]"``.
        value: the number itself.
        low: lower end of its 95 % interval, in the unit of `value`.
        high: upper end of its 95 % interval.
        floor: what real images score against other real images, at the same number of images; None where there is no
            such comparison. A perfect model reaches it.
        ceiling: what degraded real images score, at the same number of images; None where it was not computed.
        n: images (or pairs of images) of each set that enter one comparison.
        better: ``"higher"`` or ``"lower"``.
        bounds: smallest and largest possible value; infinite where there is no limit.
        source: publication of the formula.
        features: name of the features, None for measures on the images themselves.
        sha256: fingerprint of the features: their weights or their definition.
        cautions: reasons not to rely on the number, in words; empty if none is known.
    """

    name: str
    value: float
    low: float
    high: float
    floor: float | None
    ceiling: float | None
    n: int
    better: Better
    bounds: tuple[float, float]
    source: str
    features: str | None = None
    sha256: str | None = None
    cautions: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON values; infinite bounds and undefined numbers become None."""
        return {key: _json_value(value) for key, value in asdict(self).items()}

    def __str__(self) -> str:
        arrow = "↑" if self.better == "higher" else "↓"
        references = [
            f"{word} {number:.4g}"
            for word, number in (("floor", self.floor), ("ceiling", self.ceiling))
            if number is not None
        ]
        text = f"{self.name} {arrow} {self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"
        return ", ".join([text, *references, f"n = {self.n}", *self.cautions])


def _json_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json_value(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
