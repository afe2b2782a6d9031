"""`Extent`: how far a study goes beyond its first comparison: training lengths, and parts of the real data."""

from __future__ import annotations

from dataclasses import dataclass

from torchgenaug.errors import ConfigurationError


@dataclass(frozen=True)
class Extent:
    """Further trainings of the same arms.

    Attributes:
        lengths: multiples of the optimizer steps. The first one decides verdicts; where an arm's verdict is another at
            a longer training, the report calls the first one undertrained. (1, 3) is recommended, and costs four times
            as much as (1,).
        shares: fractions of the real training data, in (0, 1], for learning curves. All arms but oracles are trained
            with each; a generator that is trained per split sees that fraction alone. 1 is always among them.
        past_no_headroom: go on where the oracle is not shown to beat the best control. By default arms with synthetic
            data are then not trained, since there is nothing to win.

    Raises:
        ConfigurationError: an attribute outside its domain.
    """

    lengths: tuple[int, ...] = (1,)
    shares: tuple[float, ...] = (1.0,)
    past_no_headroom: bool = False

    def __post_init__(self) -> None:
        lengths = tuple(self.lengths)
        if (
            not lengths
            or len(set(lengths)) < len(lengths)
            or not all(type(each) is int and each >= 1 for each in lengths)
        ):
            raise ConfigurationError(
                f"`lengths` must be different whole numbers of at least 1, got {list(lengths)}. They multiply `steps`. "
                "For example (1, 3)."
            )
        shares = tuple(sorted({*map(float, self.shares), 1.0}))
        if not all(0 < share <= 1 for share in shares):
            raise ConfigurationError(
                f"`shares` must be fractions in (0, 1], got {list(self.shares)}. They are parts of the real training "
                "data. For example (0.1, 0.5)."
            )
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "shares", shares)
