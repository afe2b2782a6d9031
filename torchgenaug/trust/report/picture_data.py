"""`Pictures`: the images, pairs and points that a report draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from torchgenaug.trust.report.profiles import Profile


class Pair(NamedTuple):
    """A synthetic image and the nearest training image, each (channels, *spatial), with a line about them."""

    synthetic: Tensor
    nearest: Tensor
    caption: str


class FeatureMap(NamedTuple):
    """Features in the plane of the real ones' two main directions: (n, 2) each, and the features' name."""

    real: Tensor
    synthetic: Tensor
    features: str


@dataclass(frozen=True, eq=False)
class Pictures:
    """What the page draws.

    Attributes:
        real: some real images, (channels, *spatial) each.
        synthetic: as many synthetic ones.
        puzzle: unmarked images in random order, and whether each is synthetic.
        pairs: the synthetic images that resemble a training image most.
        profiles: of the real and of the synthetic images.
        maps: one for each kind of features.
        value_range: intensities that are black and white.
        quarter_turns: counter-clockwise turns that show a slice upright.
    """

    real: tuple[Tensor, ...]
    synthetic: tuple[Tensor, ...]
    puzzle: tuple[tuple[Tensor, bool], ...]
    pairs: tuple[Pair, ...]
    profiles: tuple[Profile, Profile]
    maps: tuple[FeatureMap, ...]
    value_range: tuple[float, float]
    quarter_turns: int = 0
