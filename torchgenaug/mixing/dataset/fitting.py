"""`Fitting`: how synthetic samples, by the names of their fields, become samples like the real ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from torchgenaug.errors import FieldMismatchError
from torchgenaug.samples.conversion import Conversion, find_conversion
from torchgenaug.samples.layout import MEMBER, PARENT, SampleLayout
from torchgenaug.samples.neutral import NoNeutralValueError, neutral
from torchgenaug.samples.value_converter import ValueConverter
from torchgenaug.types import Batch, FieldSpec


class ColumnFitting:
    """Converts batches of a synthetic source whole, field by field.

    Args:
        layout: what the samples must look like.
        fields: what the source holds.

    Raises:
        FieldMismatchError: they do not fit; all differences are listed.
    """

    def __init__(self, layout: SampleLayout, fields: Mapping[str, FieldSpec]) -> None:
        self._layout, self.notes = layout, list[str]()
        self._columns: list[tuple[str, Conversion | Filler]] = []
        problems = []
        for (name, like), source in zip(layout.items(layout.template), layout.sources, strict=True):
            if source not in fields:
                filler = find_filler(name, like)
                if filler is None:
                    problems.append(f"missing {source!r}: the real samples have it, the synthetic ones do not")
                    continue
                self._columns.append((source, filler))
                self.notes.append(filler.note(name))
                continue
            found = find_conversion(name, like, fields[source], one_hot=name in layout.one_hot)
            if isinstance(found, str):
                problems.append(f"{name!r}: {found}")
                continue
            self._columns.append((source, found))
            if found.changes:
                self.notes.append(f"{name!r} is converted ({found.changes})")
        if layout.container in ("dict", "subject") and not layout.chosen:
            problems += [
                f"surplus {name!r}: the synthetic samples have it, the real ones do not"
                for name in fields
                if name not in layout.sources and name not in (PARENT, MEMBER)
            ]
        if problems:
            raise _mismatch(problems, layout, fields, _pairs(layout, fields))

    def samples(self, batch: Batch, count: int) -> list[Any]:
        """`count` samples like the real ones."""
        columns = [part.rows(count) if isinstance(part, Filler) else part(batch[name]) for name, part in self._columns]
        return self._layout.assemble(columns, count)


class SampleFitting:
    """Converts single samples: those that a transform returns, or that a map-style data set holds.

    Args:
        layout: what the samples must look like.
        first: a sample to be converted, which the others resemble.
        names: names of its positions, where it is a tuple or list.
        strict: whether fields that the real samples do not have are refused rather than left out.

    Raises:
        FieldMismatchError: it does not fit; all differences are listed.
    """

    def __init__(self, layout: SampleLayout, first: Any, names: Sequence[str], *, strict: bool) -> None:
        self._layout, self._names, self.notes = layout, tuple(names), list[str]()
        self._fillers: dict[str, Filler] = {}
        self._converters: dict[str, ValueConverter] = {}
        values, problems = by_name(first, self._names, layout), list[str]()
        changed = False
        for (name, like), source in zip(layout.items(layout.template), layout.sources, strict=True):
            place = name if name in values else source
            if place not in values:
                filler = find_filler(name, like)
                if filler is None:
                    problems.append(f"missing {source!r}: the real samples have it, the synthetic ones do not")
                else:
                    self._fillers[name] = filler
                    self.notes.append(filler.note(name))
                continue
            converter = self._converters[name] = ValueConverter(name, like, one_hot=name in layout.one_hot)
            found = converter.find(values[place])
            changed |= found is not None
            if isinstance(found, str):
                problems.append(f"{name!r}: {found}")
            elif found is not None and found.changes:
                self.notes.append(f"{name!r} is converted ({found.changes})")
        surplus = [name for name in values if name not in layout.names and name not in layout.sources]
        if surplus and strict and not layout.chosen:
            problems += [f"surplus {name!r}: leave it out with fields={layout.names!r}" for name in surplus]
        elif surplus:
            self.notes.append(f"{surplus} are left out, which the real samples do not have")
        if problems:
            raise _mismatch(problems, layout, values)
        self.is_identity = not changed and not self.notes and type(first) is type(layout.template)

    def __call__(self, sample: Any) -> Any:
        """The sample as the real data set would return it."""
        layout = self._layout
        values = by_name(sample, self._names, layout)
        row = []
        for name, source in zip(layout.names, layout.sources, strict=True):
            if name in self._fillers:
                row.append(self._fillers[name].rows(1))
                continue
            place = name if name in values else source
            if place not in values:
                raise FieldMismatchError(
                    f"Synthetic samples must all have the same fields, got one without {place!r}. Let every sample of "
                    "the synthetic data set, or every call of `synthetic_transform`, return it."
                )
            row.append([self._converters[name](values[place])])
        return layout.assemble(row, 1)[0]


class Filler:
    """Neutral values for a field that synthetic samples lack."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def rows(self, count: int) -> list[Any]:
        """`count` of them; none shares what can be changed."""
        if self._value is None or isinstance(self._value, (str, bytes)):
            return [self._value] * count
        return [copy.deepcopy(self._value) for _ in range(count)]

    def note(self, name: str) -> str:
        """What a user should know."""
        return f"{name!r}, which they lack, is {self._value!r}"


def find_filler(name: str, like: Any) -> Filler | None:
    """The neutral value of a field, None where there is none."""
    try:
        return Filler(neutral(like, name))
    except NoNeutralValueError:
        return None


def by_name(sample: Any, names: Sequence[str], layout: SampleLayout) -> Mapping[str, Any]:
    """The values of a sample by the names of its fields.

    Raises:
        FieldMismatchError: a sample of another type than the real ones.
    """
    if isinstance(sample, Mapping):
        return {str(name): value for name, value in sample.items()}
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return dict(zip(sample._fields, sample, strict=True))
    if isinstance(sample, (tuple, list)):
        for each in (names, layout.names):
            if len(each) == len(sample):
                return dict(zip(each, sample, strict=True))
    elif len(layout.names) == 1:
        return {layout.names[0]: sample}
    got = type(sample).__name__ + (f" of {len(sample)}" if isinstance(sample, (tuple, list)) else "")
    raise FieldMismatchError(
        f"Synthetic samples must be of the real samples' type, {layout.container} of {layout.names!r}, or dicts with "
        f"these names, got {got}. Let `synthetic_transform`, or the synthetic data set, return one of these."
    )


def stated(notes: Sequence[str]) -> str:
    """All notes in one line."""
    return f"Synthetic samples are fitted to the real ones: {'; '.join(notes)}."


def _pairs(layout: SampleLayout, fields: Mapping[str, FieldSpec]) -> dict[str, str]:
    """A mapping for real names that the source does not have: to fields that fit and have no place yet."""
    if layout.container not in ("dict", "subject"):
        return {}
    pairs = {name: name for name in layout.names if name in fields}
    for name, like in layout.items(layout.template):
        free = [each for each in fields if each not in pairs.values() and each not in (PARENT, MEMBER)]
        free.sort(key=lambda each: each not in name)  # a name that is part of the other one, first
        fits = [each for each in free if not isinstance(find_conversion(name, like, fields[each]), str)]
        if name not in pairs and fits:
            pairs[name] = fits[0]
    return pairs if any(name != source for name, source in pairs.items()) else {}


def _mismatch(
    problems: Sequence[str],
    layout: SampleLayout,
    fields: Mapping[str, Any],
    pairs: Mapping[str, str] | None = None,
) -> FieldMismatchError:
    common = tuple(name for name, source in zip(layout.names, layout.sources, strict=True) if source in fields)
    lines = [
        "Synthetic samples must have the fields, shapes and dtypes of the real ones. Differences:\n  - "
        + "\n  - ".join(problems)
    ]
    if layout.container in ("dict", "subject") and common:
        lines.append(f"Leave out the fields that only one side has: fields={common!r}")
    if pairs:
        lines.append(f"say which field is which with fields={pairs!r} (real name: synthetic name)")
    lines.append(
        "or convert with `synthetic_transform` or `real_transform`, for example "
        "synthetic_transform=tio.Resize((64, 64, 1)) or a function sample -> sample"
    )
    return FieldMismatchError(lines[0] + "\n" + ", ".join(lines[1:]) + ".")


def positions_array(positions: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Positions as sources take them."""
    return np.asarray(positions, dtype=np.int64)
