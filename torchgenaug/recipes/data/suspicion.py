"""Whether an image holds what masks hold: a few values in large areas. Guards against masks that become images."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.listing import some
from torchgenaug.recipes.data.selection import Glob

_FEW = 16  # distinct values
_ANYWHERE = 4  # so few values may lie as they will; more are classes where they lie in areas
_NEAR = 0.12  # of the range: how far from an end values of a soft or compressed binary mask lie
_BETWEEN = 0.03  # fraction of pixels between the ends that a binary mask may have
_BLACK = 5
_REMARKABLE = 0.05  # fraction of the images from which on they are refused
_ALTERNATIVES = 4  # globs of files that are named in a message
_FEWER = 2  # masks hold at most so many times fewer values than the images that they belong to


def looks_like_mask(values: Tensor) -> bool:
    """Whether (channels, *spatial) values are those of a mask; constant images are not."""
    flat = values.reshape(len(values), -1)
    if len(values) > 1:
        if not bool((flat == flat[:1]).all()):
            few = len(torch.unique(flat[:, :: max(1, flat.shape[1] // 4096)], dim=1).T) <= _FEW
            return few and 1 < len(torch.unique(flat, dim=1).T) <= _FEW
        flat = flat[:1]
    low, high = (float(limit) for limit in flat.aminmax())
    if not high > low:
        return False
    sampled = flat[0, :: max(1, flat.shape[1] // 4096)]
    if _num_values(sampled) <= _FEW and (found := _num_values(flat)) <= _FEW:
        return found <= _ANYWHERE or _in_areas(values[:1])
    if values.dtype != torch.uint8 or low > _BLACK or high < 255 - _BLACK:
        return False  # compression leaves black and white where they were
    sampled, margin = sampled.double(), _NEAR * (high - low)
    between = ((sampled > low + margin) & (sampled < high - margin)).double().mean()
    ends = min(float((sampled <= low + margin).double().mean()), float((sampled >= high - margin).double().mean()))
    return float(between) < _BETWEEN and ends > 0.005


def _in_areas(values: Tensor) -> bool:
    """Whether most of the values continue in the next row for the most part: greys of small digits do not."""
    upper, lower = values[..., :-1, :], values[..., 1:, :]
    found, rows = torch.unique(upper, return_inverse=True)
    counts = torch.bincount(rows.reshape(-1), minlength=len(found))
    continued = torch.bincount(rows[upper == lower], minlength=len(found))
    return bool((continued > 0.5 * counts).double().mean() > 0.5)


def num_levels(values: Tensor) -> int:
    """How many values (channels, *spatial) hold, counted on a part of them; 2 of a binary mask with soft edges."""
    flat = values.reshape(len(values), -1)[:, :: max(1, values[0].numel() // 4096)]
    if len(flat) > 1 and not bool((flat == flat[:1]).all()):
        return len(torch.unique(flat, dim=1).T)
    found = _num_values(flat[0])
    return 2 if found > _FEW and looks_like_mask(values) else found


def are_masks_of(suspects: Sequence[int], rest: Sequence[int]) -> bool:
    """Whether images of few values can be masks of the others: these hold far more values, by `num_levels`.

    Digits of 17 greys differ in how many of them each has: those with 16 or fewer are no masks of the rest.
    """
    return statistics.median(rest) > _FEWER * max(suspects)


def _num_values(values: Tensor) -> int:
    if values.dtype == torch.uint8:
        return int((torch.bincount(values.reshape(-1).int(), minlength=256) > 0).sum())
    return len(torch.unique(values))


class MaskWatch:
    """Counts the images that look like masks while they are read."""

    def __init__(self, keys: Sequence[str], place: Callable[[int], str]) -> None:
        self.keys, self.place = keys, place
        self.suspects: list[int] = []
        self.levels: list[int] = []

    def see(self, index: int, sample: Mapping[str, Tensor]) -> None:
        """Takes note of a sample."""
        self.levels.append(num_levels(sample["image"]))
        if looks_like_mask(sample["image"]):
            self.suspects.append(index)

    def remarks(self) -> tuple[str, ...]:
        """What a user should know.

        Raises:
            ConfigurationError: a part of the images looks like masks, and no option states that they are images.
        """
        if not self.suspects:
            return ()
        names = some([self.keys[index] for index in self.suspects])
        if len(self.suspects) >= 0.95 * len(self.keys):
            return (f"All images hold few values, as masks do ({names}).",) if len(self.keys) > 1 else ()
        rest = sorted(set(range(len(self.keys))) - set(self.suspects))
        alike = not are_masks_of([self.levels[k] for k in self.suspects], [self.levels[k] for k in rest])
        if alike or len(self.suspects) < _REMARKABLE * len(self.keys):
            return (f"{len(self.suspects)} images hold few values, as masks do ({names}).",)
        raise doubt([self.keys[index] for index in self.suspects], [self.keys[index] for index in rest])


def doubt(suspects: Sequence[str], rest: Sequence[str]) -> ConfigurationError:
    """The error for images of which a part looks like masks, with both readings.

    Args:
        suspects: paths below the folder of those that do.
        rest: of the others.
    """
    folders = " --folders classes (or ignore)" if any("/" in key for key in (*suspects, *rest)) else ""
    images, masks = parting_globs(rest, suspects)
    left_out = "" if images == "GLOB" else f"; or be left out: --images '{images}' --masks none"
    return ConfigurationError(
        f"It must be clear which files are images, got {len(suspects)} of {len(suspects) + len(rest)} that hold few "
        f"values, as masks do: {some(suspects)}. They could be masks of the others: --images '{images}' --masks "
        f"'{masks}'; or images: --images '**'{folders}{left_out}."
    )


def parting_globs(first: Sequence[str], second: Sequence[str]) -> tuple[str, str]:
    """Globs of which each matches its paths and none of the others; ``"GLOB"`` twice where nothing parts them."""

    def names(keys: Sequence[str]) -> str:
        return "|".join(sorted({f"**/{key.rpartition('/')[2]}" for key in keys}))

    def folders(keys: Sequence[str]) -> str:
        return "|".join(sorted({f"**/{key.split('/')[-2]}/*" if "/" in key else "*" for key in keys}))

    for glob in (common_glob, names, folders):
        one, other = glob(first), glob(second)
        few = max(one.count("|"), other.count("|")) < _ALTERNATIVES
        if few and not Glob(one).keep(second) and not Glob(other).keep(first):
            return one, other
    return "GLOB", "GLOB"


def common_glob(keys: Sequence[str]) -> str:
    """A glob by what the paths have in common at their ends."""
    front = _common(keys)
    back = _common([key[len(front) :][::-1] for key in keys])[::-1]
    front = front[: front.rfind("/") + 1]
    folders = len({key.count("/") for key in keys}) > 1 or any("/" in key[len(front) :] for key in keys)
    tail = back[back.find("/") + 1 :] if "/" in back else back
    tail = tail.lstrip("0123456789")
    return f"{front}{'**/' if folders else ''}*{tail}"


def _common(words: Sequence[str]) -> str:
    first, last = min(words), max(words)
    length = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]
