"""Synthetic fields ↔ the real data set's own sample type: tensor, tuple, list, NamedTuple, dict or `tio.Subject`.

The rule is that the training loop must not change by a line: what the real data set hands out as a tuple of a tensor
and an int stays a tuple of a tensor and an int when the sample is synthetic. A `SampleLayout` is read off one real
sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.samples.container_type import mapping_like
from torchgenaug.samples.hollow import hollow, with_arrays, without_arrays
from torchgenaug.samples.torchio_values import is_image, is_subject, plain

Container: TypeAlias = Literal["tensor", "tuple", "list", "namedtuple", "dict", "subject"]

Fields: TypeAlias = Sequence[str] | Mapping[str, str]
"""Names of fields; a mapping gives for each the name that it has in the synthetic source."""

PARENT = "parent"
"""The field that conditions use to say which real sample they were taken from: provenance, never handed out as data."""

MEMBER = "member"
"""The field that an ensemble uses to say which of its synthesizers made a sample: provenance, too."""


@dataclass(frozen=True)
class SampleLayout:
    """How fields sit in the samples of one data set.

    Args:
        container: what kind of object a sample is; ``"tensor"`` is any single value, an array or a number too.
        names: the fields that are handed out, in order.
        template: a hollow real sample: types, shapes, dtypes and, for images of a Subject, the affine; no voxels, so
            that workers are not sent any.
        restricted: whether `names` leaves out fields that the real samples have.
        chosen: whether the user named the fields: what else a synthetic sample holds is then no mistake.
        sources: what each field is called in the synthetic source, in the order of `names`.
        one_hot: fields whose first axis is one-hot in the real sample that was looked at.
        crops: how many samples of this layout one sample is a list of (MONAI's crops with ``num_samples``); 0: no list.
    """

    container: Container
    names: tuple[str, ...]
    template: Any = field(repr=False)
    restricted: bool = False
    chosen: bool = False
    sources: tuple[str, ...] = ()
    one_hot: frozenset[str] = frozenset()
    crops: int = 0

    def __post_init__(self) -> None:
        if not self.sources:
            object.__setattr__(self, "sources", self.names)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "template": without_arrays(self.template)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, template=with_arrays(state["template"]))

    @classmethod
    def of(cls, sample: Any, fields: Fields | None = None) -> SampleLayout:
        """The layout of a real sample.

        Args:
            sample: any sample of the real data set.
            fields: names of the positions of a tuple or list; for dicts and Subjects, which fields to hand out. A
                mapping says besides what each is called in the synthetic source.

        Raises:
            ConfigurationError: positions without names, or names that do not fit.
        """
        given = checked_fields(fields)
        if _is_list_of_crops(sample):
            return replace(cls.of(sample[0], fields), crops=len(sample))
        container, names = _structure(sample, given)
        template = hollow(sample)
        layout = cls(container, names, template)
        for name, value in layout.items(sample):
            _check_dense(name, value)
        return replace(
            layout,
            restricted=container in ("dict", "subject") and given is not None and set(given) != set(sample),
            chosen=given is not None and container in ("dict", "subject"),
            sources=tuple(fields.values()) if isinstance(fields, Mapping) else names,
            one_hot=frozenset(
                name for name, value in layout.items(sample) if not is_image(value) and is_one_hot(value)
            ),
        )

    def of_transformed(self, sample: Any) -> SampleLayout:
        """The layout of a sample of this layout after a transform, which may drop positions or rename fields."""
        parts = sample[0] if _is_list_of_crops(sample) else sample
        renamed = dict(zip(self.names, self.sources, strict=True))
        if isinstance(parts, Mapping):
            return replace(
                SampleLayout.of(sample, {str(name): renamed.get(str(name), str(name)) for name in parts}),
                chosen=self.chosen,
            )
        if isinstance(parts, (tuple, list)) and len(parts) < len(self.names) and not hasattr(parts, "_fields"):
            return SampleLayout.of(sample, {name: renamed[name] for name in self.names[: len(parts)]})
        return SampleLayout.of(sample, renamed)

    def split(self, sample: Any) -> dict[str, Any]:
        """The fields of a sample of this layout, as they are (image data of a Subject as tensors)."""
        if self.container == "tensor":
            return {self.names[0]: sample}
        if self.container in ("dict", "subject"):
            return {name: plain(sample[name]) for name in self.names}
        return dict(zip(self.names, sample, strict=True))

    def join(self, values: Mapping[str, Any], like: Any) -> Any:
        """A sample of this layout with these field values; what is not a field is taken from the sample `like`."""
        if self.container == "tensor":
            return values[self.names[0]]
        if self.container == "dict":
            return mapping_like(like, {**like, **values})
        if self.container == "subject":
            return _subject(values, like)
        row = [values[name] for name in self.names]
        return self._build(row)

    def restrict(self, sample: Any) -> Any:
        """A sample with only the fields that are handed out."""
        kept = {name: sample[name] for name in self.names}
        return type(sample)(kept) if self.container == "subject" else mapping_like(sample, kept)

    def assemble(self, columns: Sequence[Sequence[Any]], count: int) -> list[Any]:
        """`count` samples of this layout from the values of each field, in the order of `names`."""
        if self.container == "tensor":
            return list(columns[0])
        rows = zip(*columns, strict=True) if columns else iter(() for _ in range(count))
        if self.container == "tuple":
            return list(rows)
        if self.container == "dict":
            built = [dict(zip(self.names, row, strict=True)) for row in rows]
            return built if type(self.template) is dict else [mapping_like(self.template, row) for row in built]
        if self.container == "subject":
            base = {name: self.template[name] for name in self.names}
            return [_subject(dict(zip(self.names, row, strict=True)), base) for row in rows]
        return [self._build(row) for row in rows]

    def items(self, sample: Any) -> list[tuple[str, Any]]:
        """Name and raw value of every field of a sample, in the order of `names`."""
        if self.container == "tensor":
            return [(self.names[0], sample)]
        if self.container in ("dict", "subject"):
            return [(name, sample[name]) for name in self.names]
        return list(zip(self.names, sample, strict=True))

    def _build(self, row: Sequence[Any]) -> Any:
        if self.container == "namedtuple":
            return type(self.template)(*row)
        return tuple(row) if self.container == "tuple" else list(row)


def checked_fields(fields: Fields | None) -> tuple[str, ...] | None:
    """The names in the argument `fields`.

    Raises:
        ConfigurationError: a string, or names that repeat.
    """
    if isinstance(fields, str):
        raise ConfigurationError(
            f"`fields` must be a sequence of names, got the string {fields!r}. Write ({fields!r},)."
        )
    given = None if fields is None else tuple(fields)
    if given is not None and len(set(given)) != len(given):
        raise ConfigurationError(f"`fields` must be distinct names, got {given}.")
    return given


def _structure(sample: Any, given: tuple[str, ...] | None) -> tuple[Container, tuple[str, ...]]:
    """What kind of object a sample is, and the names of its fields."""
    if isinstance(sample, Mapping):
        other = [name for name in sample if not isinstance(name, str)]
        if other:
            raise ConfigurationError(
                f"The keys of a sample must be texts, got {other[0]!r}. Fields go by their names. Rename them in the "
                "data set: {str(key): value for key, value in sample.items()}."
            )
        names = tuple(sample)
        unknown = [name for name in given or () if name not in names]
        if unknown:
            raise ConfigurationError(f"`fields` must name fields of the real samples {list(names)}, got {unknown}.")
        return ("subject" if is_subject(sample) else "dict"), given or names
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return "namedtuple", _positions(given or tuple(sample._fields), len(sample), sample)
    if isinstance(sample, (tuple, list)):
        if given is None:
            example = ("image", "label") if len(sample) == 2 else tuple(f"field_{k}" for k in range(len(sample)))
            raise ConfigurationError(
                f"`fields` must name the {len(sample)} positions of the real samples, which are of type "
                f"{type(sample).__name__}. Add, for example, fields={example!r}."
            )
        return ("tuple" if isinstance(sample, tuple) else "list"), _positions(given, len(sample), sample)
    return "tensor", _positions(given or ("image",), 1, sample)


def _check_dense(name: str, value: Any) -> None:
    if isinstance(value, Tensor) and value.layout != torch.strided:
        raise ConfigurationError(
            f"Tensors of a sample must be dense, got {value.layout} for {name!r}. Return value.to_dense() from the "
            "data set."
        )


def _is_list_of_crops(sample: Any) -> bool:
    return isinstance(sample, list) and bool(sample) and all(isinstance(part, Mapping) for part in sample)


def is_one_hot(value: Any) -> bool:
    """Whether an array or tensor, (classes,) or (classes, *spatial) with two classes or more, is one-hot over them."""
    if not isinstance(value, (Tensor, np.ndarray)) or value.ndim < 1 or value.shape[0] < 2:
        return False
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biuf":
        return False
    array = np.asarray(value.detach().cpu().float() if isinstance(value, Tensor) else value)
    return bool(((array == 0) | (array == 1)).all() and (array.sum(0, dtype=np.float64) == 1).all())


def _positions(names: tuple[str, ...], size: int, sample: Any) -> tuple[str, ...]:
    if len(names) != size:
        raise ConfigurationError(
            f"`fields` must name the {size} position(s) of the real samples ({type(sample).__name__}), got {names}."
        )
    return names


def _subject(values: Mapping[str, Any], like: Mapping[str, Any]) -> Any:
    """A Subject with `values`; images get the class and the affine of those in `like`."""
    import torchio as tio

    parts = dict(like)
    for name, value in values.items():
        template = like.get(name)
        if isinstance(template, tio.Image) and not isinstance(value, tio.Image):
            parts[name] = type(template)(tensor=value, affine=template.affine)
        else:
            parts[name] = value
    return tio.Subject(parts)
