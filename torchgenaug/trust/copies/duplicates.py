"""Duplicates within a set, and near-duplicates between two sets of real images, without any held-out images."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.trust.copies.describe import Described, Images, check_same_shape, describe
from torchgenaug.trust.copies.gallery import Gallery, Nearest
from torchgenaug.trust.copies.spacing import copies_between

_SURE = 8.0
"""How many spreads of log distance below its middle a pair must lie. Of 300 clean splits of handwritten digits 8 raised
an alarm at 6 and none at 7.5, and all planted overlaps were found up to 10."""
_CLOSE = 0.02
"""Distances (1 - cosine) above are never a duplicate, however unlike the other images are."""
_ROUNDING, _EQUAL = 1e-6, 1e-4
_LEAST = 8  # images that tell what distances are usual


class Duplicate(NamedTuple):
    """Two images with the same content.

    Attributes:
        first: position in the first set.
        second: position in the second set; in the same set, for duplicates within one.
        distance: 1 - cosine of their descriptors, the smaller one; 0 for equal images.
    """

    first: int
    second: int
    distance: float


def find_duplicates(images: Images) -> list[Duplicate]:
    """Images of a set that repeat another one, up to flip, shift, gain, re-encoding and a little noise.

    A pair counts where it is far nearer than is usual within the set: eight spreads below the middle of the logarithms
    of all nearest distances. Sets of fewer than 8 images are compared for equality alone (1 - cosine of 1e-4).

    Args:
        images: (n, channels, *spatial), or a list or data set of (channels, *spatial).

    Returns:
        For each image with a duplicate, the nearest one; each pair once, nearest first.

    Example:
        >>> import torch
        >>> images = torch.rand(20, 1, 16, 16)
        >>> images[7] = images[3].flip(2) * 0.5
        >>> [(pair.first, pair.second) for pair in find_duplicates(images)]
        [(3, 7)]
    """
    described = describe(images)
    own = np.arange(len(described))
    found = Gallery.of(described).nearest(described, own=own, mine=own)
    pairs = _below(found, _limits(found), described)
    unique = {(min(pair.first, pair.second), max(pair.first, pair.second)): pair for pair in pairs}
    return sorted(
        (Duplicate(first, second, pair.distance) for (first, second), pair in unique.items()),
        key=lambda pair: (pair.distance, pair.first),
    )


def find_overlap(first: Images, second: Images, *, names: tuple[str, str] = ("first", "second")) -> list[Duplicate]:
    """Images of `second` whose content is in `first`: a leak, where these are a training and a test set.

    A pair counts where it is far nearer than both images' neighbours in both sets, by more than is usual within either
    set. So images that were saved as JPEG, resized a little or changed in contrast are found, too. Where neither set
    has 8 images, those that are equal up to flip, shift and gain.

    Args:
        first: the set that is searched in, usually the training images.
        second: the set whose images are looked up.
        names: of the sets, for messages.

    Returns:
        A pair for each image of `second` that is found, nearest first.

    Example:
        >>> import torch
        >>> train, test = torch.rand(20, 1, 16, 16), torch.rand(10, 1, 16, 16)
        >>> test[4] = (train[9] * 255).round() / 255
        >>> [(pair.first, pair.second) for pair in find_overlap(train, test)]
        [(9, 4)]
    """
    if not isinstance(names, tuple) or len(names) != 2:
        raise ConfigurationError(f"`names` must be two names, got {names!r}. For example ('train', 'test').")
    searched, looked_up = describe(first, name=names[0]), describe(second, name=names[1])
    return overlap_of(searched, looked_up, names)


def overlap_of(
    searched: Described,
    looked_up: Described,
    names: tuple[str, str],
    *,
    synthetic: Literal["searched", "looked up"] | None = None,
) -> list[Duplicate]:
    """`find_overlap` of sets that are described already.

    `synthetic`: the set that is not real. Then by the limits of `find_duplicates`, not by the distances around each
    image: one that was made from the mask of a real image lies nearer to it than to any other, and is no copy for that.
    """
    check_same_shape(searched, looked_up, names)
    rows = [_first_of_equal(described) for described in (searched, looked_up)]
    kept, place = np.unique(rows[1], return_inverse=True)
    different = np.unique(rows[0])
    one, other = searched.rows(torch.from_numpy(different)), looked_up.rows(torch.from_numpy(kept))
    if synthetic is None:
        is_copy, named, distances = copies_between(one, other)
    else:
        is_copy, named, distances = _below_usual(one, other, [one] if synthetic == "looked up" else [one, other])
    is_copy &= ~other.constant
    seen = different[named.numpy()]
    return sorted(
        (Duplicate(int(seen[k]), row, float(distances[k])) for row, k in enumerate(place.tolist()) if is_copy[k]),
        key=lambda pair: pair.distance,
    )


def _first_of_equal(described: Described) -> npt.NDArray[np.int64]:
    """The first image that is equal to each one: repeated images are no neighbours that tell what is usual."""
    known: dict[int, int] = {}
    rows = described.blocks.reshape(len(described), -1).contiguous().numpy()
    return np.array([known.setdefault(hash(row.tobytes()), k) for k, row in enumerate(rows)], np.int64)


def _below_usual(searched: Described, looked_up: Described, telling: list[Described]) -> tuple[Tensor, Tensor, Tensor]:
    """Which images lie nearer to one of another set than is usual within each of some sets, as `copies_between`."""
    gallery = Gallery.of(searched)
    limits = []
    for described in telling:
        own = np.arange(len(described))
        limits.append(_limits(Gallery.of(described, gallery.frame).nearest(described, own=own, mine=own)))
    found = gallery.nearest(looked_up)
    # Few images do not tell what is usual: the lower limit is that of the set which tells more.
    pairs = _below(found, (min(each[0] for each in limits), min(each[1] for each in limits)), looked_up)
    is_copy, named = torch.zeros(len(looked_up), dtype=torch.bool), torch.zeros(len(looked_up), dtype=torch.int64)
    for pair in pairs:
        is_copy[pair.first], named[pair.first] = True, pair.second
    return is_copy, named, torch.minimum(found.spectrum_distance, found.block_distance)


def _limits(usual: Nearest) -> tuple[float, float]:
    """Distances, by each descriptor, below which a pair is a duplicate."""
    limits = []
    for name in ("spectrum_distance", "block_distance"):
        distances = getattr(usual, name).double().numpy()
        distances = distances[np.isfinite(distances)]
        if len(distances) < _LEAST:
            limits.append(_EQUAL)
            continue
        logs = np.log(np.clip(distances, _ROUNDING, None))
        middle, low = np.quantile(logs, (0.5, 0.25))
        # The lower quarter as a spread: duplicates themselves, if they are fewer than that, do not move it.
        spread = max((middle - low) / 0.674, 0.15)
        limits.append(float(np.clip(np.exp(middle - _SURE * spread), _ROUNDING, _CLOSE)))
    return limits[0], limits[1]


def _below(found: Nearest, limits: tuple[float, float], described: Described) -> list[Duplicate]:
    spectrum, blocks = found.spectrum_distance.numpy(), found.block_distance.numpy()
    usable = ~described.constant.numpy()
    # In units of the limit, so that the descriptor that is surer names the pair.
    excess: npt.NDArray[np.float64] = np.stack([spectrum / limits[0], blocks / limits[1]])
    by = excess.argmin(0)
    index = np.stack([found.spectrum_index.numpy(), found.block_index.numpy()])
    rows = np.flatnonzero((excess.min(0) <= 1) & usable)
    return [Duplicate(int(k), int(index[by[k], k]), float(min(spectrum[k], blocks[k]))) for k in rows]
