"""Collects the values of all masks, and derives which classes they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.types import FieldSpec

COLOUR = 1 << 24
"""Added to 0xRRGGBB, so that no colour is taken for a grey."""

_KEPT_CLASSES, _MAX_VALUES = 32, 64
_LOW, _HIGH = 51, 204  # of 255: what lies between is no end of a binary mask
_MOST_BETWEEN = 0.25  # fraction of pixels that soft edges take at most
_FLAT = 0.3  # a value is a class where so many of its pixels lie in areas of it, 3 x 3 at least
_EVEN, _EVEN_PART = 32, 0.1  # an edge climbs by more than so many levels within 3 pixels, but for a part of it
_NOISE = 12  # levels by which compression moves a class at most, where it moves it little
_SPECKS = 3  # levels near each end, in specks, that compression leaves at least
_WHITE = 0xFFFFFF
_ROUNDING = 1e-3
_LEVELS = 64  # classes are numbered from 0; where the largest value is at least this, values are levels of grey


@dataclass(frozen=True)
class Classes:
    """Mask values → class numbers.

    Args:
        table: the value of each class, ascending; None: values are the classes.
        threshold: class 1 from here on, in place of a table.
        white_first: whether white, the last colour of the table, is class 0, and so is black, with which masks are
            padded.
    """

    table: tuple[int, ...] | None = None
    threshold: float | None = None
    white_first: bool = False

    def __call__(self, values: Tensor) -> Tensor:
        """(1, *spatial) int64."""
        if self.threshold is not None:
            return (values >= self.threshold).long()
        whole = values.round().long() if values.dtype.is_floating_point else values.long()
        if self.table is None:
            return whole
        if self.table[-1] >= COLOUR:
            whole = torch.where(whole < COLOUR, COLOUR + whole * 0x010101, whole)  # a mask that is all grey
        found = torch.searchsorted(torch.tensor(self.table), whole.contiguous())
        if not self.white_first:
            return found
        return torch.where(whole == COLOUR, 0, (found + 1) % len(self.table))


class MaskColumn:
    """Masks: values that become classes from 0 on.

    Soft edges and compression give a binary mask values in between. Such values lie in lines, not in areas, and a set
    of masks in which all areas are near two ends is binary.

    Args:
        name: of the field.
        places: where sample k is, for errors.
        count: how many samples there will be.
    """

    def __init__(self, name: str, places: Callable[[int], str], count: int) -> None:
        self.name, self.places = name, places
        self.remarks: list[str] = []
        self._values: set[int] = set()
        self._full: int | None = None  # what stands for 1 where masks are soft: 1, 255 or 65535
        self._pixels, self._flat = Counter[int](), Counter[int]()  # by level, 0 to 255
        self._even_between = 0  # pixels between the ends that are not part of an edge
        self._single: set[int] = set()  # values that are the only ones but 0 in their file
        self._mixed = False
        self._fraction = ""  # where a value that is no whole number is
        self._too_many = ""
        self._classes: Classes | None = None

    def see(self, index: int, values: Tensor, image: Tensor) -> None:
        """Takes note of sample `index`, whose image is `image`."""
        place = self.places(index)
        if values.ndim != image.ndim or values.shape[0] != 1 or values.shape[1:] != image.shape[1:]:
            raise ConfigurationError(
                f"The mask must have one channel and the size of its image, {(1, *image.shape[1:])}, got "
                f"{tuple(values.shape)} at {place}. Resample it onto the grid of the image; one class per pixel."
            )
        if not bool(torch.isfinite(values).all()):
            raise ConfigurationError(f"The mask must be finite, got NaN or infinite values at {place}. Write 0 there.")
        whole = values
        if values.dtype.is_floating_point:
            whole = values.round()
            if bool(((values - whole).abs() > _ROUNDING).any()) and not self._fraction:
                example = values[(values - whole).abs() > _ROUNDING][0]
                self._fraction = f"{example:g} at {place}"
        # Of 64 x 64 bytes, counting took 29 µs and `unique`, which sorts, 111 µs.
        found = _counted_values(whole) if whole.dtype == torch.uint8 else torch.unique(whole.long())
        if found[0] < 0:
            raise ConfigurationError(f"The mask must not hold negative values, got {int(found[0])} at {place}.")
        listed = found.tolist()
        nonzero = [value for value in listed if value not in (0, COLOUR)]
        self._single |= set(nonzero) if len(nonzero) == 1 else set()
        self._mixed |= len(nonzero) > 1
        self._values.update(listed)
        if len(self._values) > _MAX_VALUES and not self._too_many:
            self._too_many = place
        self._measure(values, listed)
        if self._too_many and self._full == 0:
            raise self._refusal()

    def classes(self) -> Classes:
        """Which classes the values are.

        Raises:
            ConfigurationError: values that are no classes; they are shown.
        """
        if self._classes is None:
            self._classes = self._decided()
        return self._classes

    def spec(self, size: tuple[int, ...]) -> FieldSpec:
        """The field at spatial size `size`."""
        found, largest = self.classes(), max(self._values)
        if found.threshold is not None:
            classes = 2
        elif largest in (0, COLOUR):
            raise ConfigurationError("Masks must hold another value than 0, got 0 everywhere. Leave them out.")
        else:
            classes = largest + 1 if found.table is None else len(found.table)
        return FieldSpec((1, *size), torch.int64, kind="label_map", value_range=(0, classes - 1))

    def _measure(self, values: Tensor, listed: list[int]) -> None:
        """Counts levels, in all and in areas."""
        top = listed[-1]
        full = 1 if self._fraction and float(values.max()) <= 1 else 255 if top <= 255 else 65535 if top <= 65535 else 0
        if top == 0 and not self._fraction:
            full = self._full if self._full is not None else 255  # nothing there: it fits whatever the others hold
        if self._full is None or (self._full == 255 and not any(self._pixels[k] for k in range(1, 256))):
            self._full = full
        elif full != self._full:
            self._full = 0
        if not self._full:
            return
        levels = (values.double() * (255 / self._full)).round().clamp(0, 255)[0]
        planes = levels.reshape(-1, 1, *levels.shape[-2:]).float()
        self._pixels.update(_counted(planes))
        if len(listed) > 2 or self._fraction:
            span = nn.functional.max_pool2d(planes, 3, 1, 1) + nn.functional.max_pool2d(-planes, 3, 1, 1)
            self._flat.update(_counted(planes[span == 0]))
            between = (planes > _LOW) & (planes < _HIGH)
            self._even_between += int((between & (span <= _EVEN)).sum())

    def _decided(self) -> Classes:
        if self._is_soft():
            between = sum(count for level, count in self._pixels.items() if _LOW < level < _HIGH)
            share = between / sum(self._pixels.values())
            self.remarks.append(
                f"Masks are binary with soft or compressed edges (values {_some(sorted(self._values))}; {share:.1%} of "
                "the pixels between the ends): class 1 from half of the largest value on."
            )
            return Classes(threshold=0.5 * (self._full or 255))
        if self._fraction:
            raise ConfigurationError(
                f"The mask must hold whole numbers, one class per pixel, got values like {self._fraction}. Round it, "
                "or resample with nearest neighbour."
            )
        if self._too_many:
            raise self._refusal()
        self._check_lines()
        if self._values == {0, 1, 255} and not self._mixed:
            raise ConfigurationError(
                "Masks must be written in one way, got some with the values 0 and 1 and others with 0 and 255. Write 1 "
                "for 255."
            )
        if max(self._values) < _KEPT_CLASSES:
            return Classes()
        colours = max(self._values) >= COLOUR
        table = tuple(sorted({_as_colour(value) for value in self._values} if colours else self._values))
        if len(table) == 1:  # one class everywhere, and a background that no mask shows
            table = (COLOUR if colours else 0, *table)
        white_first = table[0] != COLOUR and table[-1] == COLOUR | _WHITE
        if len(table) > 2 or table[0] not in (0, COLOUR):
            what = "colours" if colours else "values"
            classes = (table[-1], *table[:-1]) if white_first else table
            shown = ", ".join(f"#{value - COLOUR:06x}" if colours else str(value) for value in classes)
            none = "" if table[0] in (0, COLOUR) else f": none is {'black' if colours else '0'}"
            self.remarks.append(f"Mask {what} {shown} became classes 0 to {len(table) - 1}{none}.")
        return Classes(table, white_first=white_first)

    def _is_soft(self) -> bool:
        levels = sorted(self._pixels)
        if not self._full or (len(self._values) <= 2 and not self._fraction):
            return False
        if levels[0] > _LOW or levels[-1] < _HIGH:
            return False
        between = [level for level in levels if _LOW < level < _HIGH]
        num_between = sum(self._pixels[level] for level in between)
        if num_between > _MOST_BETWEEN * sum(self._pixels.values()) or self._even_between > _EVEN_PART * num_between:
            return False
        if len(levels) < 4 and num_between < 16 and not (self._fraction and not num_between):
            return False
        ends = ([level for level in levels if level <= _LOW], [level for level in levels if level >= _HIGH])
        main = [max(end, key=lambda each: self._pixels[each]) for end in ends]
        others = [level for end in ends for level in end if level not in main]
        if self._is_noisy(ends, num_between):
            others = [level for level in others if all(abs(level - each) > _NOISE for each in main)]
        return not any(self._is_area(level) for level in [*between, *others])

    def _is_noisy(self, ends: Sequence[Sequence[int]], num_between: int) -> bool:
        """Whether compression moved the values at both ends: WebP moves whole blocks by a few levels.

        Specks of it lie near the ends, while half of an interpolated edge and more lies between them.
        """
        specks = [[level for level in end if not self._is_area(level)] for end in ends]
        near = sum(self._pixels[level] for end in specks for level in end)
        return min(map(len, specks)) >= _SPECKS and num_between < near / 2

    def _check_lines(self) -> None:
        """Refuses classes between which compression or interpolation wrote other values."""
        if not self._full or max(self._values) < _LEVELS:
            return
        areas = [level for level in sorted(self._pixels) if self._is_area(level)]
        others = [level for level in self._pixels if level not in areas]
        near = [level for level in others if any(abs(level - area) <= _NOISE for area in areas)]
        if len(others) > max(8, 2 * len(areas)) or len(near) > 1:
            raise ConfigurationError(
                f"Masks must hold one value per class, got {len(self._values)} ({_some(sorted(self._values))}), most "
                f"of them in lines between areas of {_some(areas)} (of 255): compressed or interpolated classes. Write "
                "masks as PNG, and resample them with nearest neighbour."
            )

    def _is_area(self, level: int) -> bool:
        return self._pixels[level] >= 9 and self._flat[level] > _FLAT * self._pixels[level]

    def _refusal(self) -> ConfigurationError:
        values = sorted(self._values)
        if values[-1] >= COLOUR:
            values = sorted({_as_colour(value) for value in values})
            shown = ", ".join(f"#{value - COLOUR:06x}" for value in values[:8]) + ", …"
        else:
            shown = _some(values)
        compressed = "Colours between those of the classes come from compression: write masks as PNG. "
        return ConfigurationError(
            f"Masks must hold at most {_MAX_VALUES} different values, got more by {self._too_many}: {shown}. "
            f"{compressed if values[-1] >= COLOUR else ''}Numbers of cells are no classes: write mask > 0. A grey "
            "image is no mask: leave it out with --masks none, state which files are masks (--masks GLOB), or, where "
            "folders are classes: --images '**' --folders classes."
        )


def _as_colour(value: int) -> int:
    return value if value >= COLOUR else COLOUR + value * 0x010101


def _counted_values(values: Tensor) -> Tensor:
    return torch.bincount(values.reshape(-1).int(), minlength=256).nonzero()[:, 0]


def _counted(levels: Tensor) -> dict[int, int]:
    counts = torch.bincount(levels.reshape(-1).long(), minlength=256)
    return {level: int(counts[level]) for level in counts.nonzero()[:, 0].tolist()}


def _some(values: Iterable[int]) -> str:
    listed = list(values)
    return ", ".join(map(str, listed[:8])) + (f", … {listed[-1]}" if len(listed) > 8 else "")
