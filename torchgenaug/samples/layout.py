"""Synthetic fields ↔ the real data set's own sample type: tensor, tuple, list, NamedTuple, dict or `tio.Subject`.

The rule is that the training loop must not change by a line: what the real data set hands out as a tuple of a tensor
and an int stays a tuple of a tensor and an int when the sample is synthetic. A `SampleLayout` is read off one real
sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.samples.container_type import mapping_like, tensor_like
from torchgenaug.types import Batch, FieldKind, FieldSpec

Container: TypeAlias = Literal["tensor", "tuple", "list", "namedtuple", "dict", "subject"]

PARENT = "parent"
"""The field that conditions use to say which real sample they were taken from: provenance, never handed out as data."""

MEMBER = "member"
"""The field that an ensemble uses to say which of its synthesizers made a sample: provenance, too."""


def is_subject(sample: object) -> bool:
    """Whether `sample` is a `torchio.Subject`, without importing torchio."""
    return any(base.__name__ == "Subject" and base.__module__.startswith("torchio.") for base in type(sample).__mro__)


@dataclass(frozen=True)
class SampleLayout:
    """How fields sit in the samples of one data set.

    Args:
        container: what kind of object a sample is.
        names: the fields that are handed out, in order.
        template: a hollow real sample: types, shapes, dtypes and, for images of a Subject, the affine; no voxels, so
            that workers are not sent any.
        restricted: whether `names` leaves out fields that the real samples have.
        chosen: whether the user named the fields: what else a synthetic sample holds is then no mistake.
    """

    container: Container
    names: tuple[str, ...]
    template: Any = field(repr=False)
    restricted: bool = False
    chosen: bool = False

    def __getstate__(self) -> dict[str, Any]:
        # numpy writes out what it shares when it pickles; the number of axes is all that is needed from then on.
        return {**self.__dict__, "template": _without_arrays(self.template)}

    @classmethod
    def of(cls, sample: Any, fields: Sequence[str] | None = None) -> SampleLayout:
        """The layout of a real sample.

        Args:
            sample: any sample of the real data set.
            fields: names of the positions of a tuple or list; for dicts and Subjects, which fields to hand out.

        Raises:
            ConfigurationError: positions without names, names that do not fit, or an unsupported sample type.
        """
        sample = _hollow(sample)
        if isinstance(fields, str):
            raise ConfigurationError(
                f"`fields` must be a sequence of names, got the string {fields!r}. Write ({fields!r},)."
            )
        given = None if fields is None else tuple(fields)
        if given is not None and len(set(given)) != len(given):
            raise ConfigurationError(f"`fields` must be distinct names, got {given}.")
        if isinstance(sample, Tensor):
            return cls("tensor", _positions(given or ("image",), 1, sample), sample)
        if isinstance(sample, Mapping):
            names = tuple(str(name) for name in sample)
            unknown = [name for name in given or () if name not in names]
            if unknown:
                raise ConfigurationError(f"`fields` must name fields of the real samples {list(names)}, got {unknown}.")
            container: Container = "subject" if is_subject(sample) else "dict"
            restricted = given is not None and set(given) != set(names)
            return cls(container, given or names, sample, restricted, chosen=given is not None)
        if isinstance(sample, tuple) and hasattr(sample, "_fields"):
            return cls("namedtuple", _positions(given or tuple(sample._fields), len(sample), sample), sample)
        if isinstance(sample, (tuple, list)):
            if given is None:
                example = ("image", "label") if len(sample) == 2 else tuple(f"field_{k}" for k in range(len(sample)))
                raise ConfigurationError(
                    f"`fields` must name the {len(sample)} positions of the real samples, which are of type "
                    f"{type(sample).__name__}. Add, for example, fields={example!r}."
                )
            container = "tuple" if isinstance(sample, tuple) else "list"
            return cls(container, _positions(given, len(sample), sample), sample)
        raise ConfigurationError(
            f"`real` must hold tensors, tuples, lists, dicts or torchio Subjects, got a sample of type "
            f"{type(sample).__name__}. Wrap the data set so that it returns one of these."
        )

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

    def samples(self, batch: Batch, count: int) -> list[Any]:
        """`count` synthetic samples of this layout, from a batch of their fields."""
        columns = [_column(batch[name], plain(value)) for name, value in self.items(self.template)]
        rows = zip(*columns, strict=True) if columns else iter(() for _ in range(count))
        if self.container == "tensor":
            return columns[0]
        if self.container == "tuple":
            return list(rows)
        if self.container == "dict":
            made = [dict(zip(self.names, row, strict=True)) for row in rows]
            return made if type(self.template) is dict else [mapping_like(self.template, row) for row in made]
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

    def check(self, fields: Mapping[str, FieldSpec]) -> None:
        """Raises `FieldMismatchError`, listing every difference, unless samples of `fields` fit this layout."""
        problems = []
        for name, raw in self.items(self.template):
            if name not in fields:
                problems.append(f"missing {name!r}: the real samples have it, the synthetic ones do not")
                continue
            problem = _difference(plain(raw), fields[name], subject=self.container == "subject")
            if problem:
                problems.append(f"{name!r}: {problem}")
        if self.container in ("dict", "subject") and not self.chosen:
            problems += [
                f"surplus {name!r}: the synthetic samples have it, the real ones do not"
                for name in fields
                if name not in self.names and name not in (PARENT, MEMBER)
            ]
        if problems:
            common = tuple(name for name in self.names if name in fields)
            raise FieldMismatchError(
                "Synthetic samples must have the fields, shapes and dtypes of the real ones. Differences:\n  - "
                + "\n  - ".join(problems)
                + f"\nHand out only common fields with fields={common!r} (tuples: name every position), or convert "
                "with `synthetic_transform` or `real_transform`, for example "
                "synthetic_transform=tio.Resize((64, 64, 1)) or a function sample -> sample."
            )

    def _build(self, row: Sequence[Any]) -> Any:
        if self.container == "namedtuple":
            return type(self.template)(*row)
        return tuple(row) if self.container == "tuple" else list(row)


def infer_kind(name: str, value: Any) -> FieldKind:
    """What a field is, where nobody says it: by the class of a torchio image, else by name, else by dtype.

    Arrays called mask, seg… or label… are label maps; others are images if they are of a floating-point dtype or called
    image, img, scan or volume; the rest, integers, are label maps. Fewer than two axes make a scalar.
    """
    if type(value).__module__.startswith("torchio."):
        return "label_map" if any(base.__name__ == "LabelMap" for base in type(value).__mro__) else "intensity"
    if not isinstance(value, (Tensor, np.ndarray)) or value.ndim < 2:
        return "scalar"
    lowered = name.lower()
    if any(word in lowered for word in ("mask", "seg", "label")):
        return "label_map"
    floating = value.dtype.is_floating_point if isinstance(value, Tensor) else value.dtype.kind == "f"
    if floating or any(word in lowered for word in ("image", "img", "scan", "volume")):
        return "intensity"
    return "label_map"


def _hollow(value: Any) -> Any:
    """The sample without its voxels: tensors and arrays keep shape and dtype, but share a single element."""
    if isinstance(value, Tensor):
        return tensor_like(value, torch.zeros((), dtype=value.dtype).expand(value.shape))
    if isinstance(value, np.ndarray):
        return np.broadcast_to(np.zeros((), value.dtype), value.shape)
    if is_subject(value):
        return type(value)({name: _hollow(part) for name, part in value.items()})
    if type(value).__module__.startswith("torchio.") and hasattr(value, "affine"):
        return type(value)(tensor=_hollow(value.data), affine=value.affine)
    if isinstance(value, Mapping):
        return mapping_like(value, {name: _hollow(part) for name, part in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_hollow, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(_hollow, value))
    return value


def _without_arrays(template: Any) -> Any:
    if isinstance(template, np.ndarray):
        return np.empty((0,) * template.ndim, template.dtype)
    if isinstance(template, Mapping) and not is_subject(template):
        return mapping_like(template, {name: _without_arrays(part) for name, part in template.items()})
    if isinstance(template, (tuple, list)) and any(isinstance(part, np.ndarray) for part in template):
        parts = [_without_arrays(part) for part in template]
        return type(template)(*parts) if hasattr(template, "_fields") else type(template)(parts)
    return template


def _positions(names: tuple[str, ...], size: int, sample: Any) -> tuple[str, ...]:
    if len(names) != size:
        raise ConfigurationError(
            f"`fields` must name the {size} position(s) of the real samples ({type(sample).__name__}), got {names}."
        )
    return names


def plain(value: Any) -> Any:
    """The tensor of a torchio image; anything else as it is."""
    if type(value).__module__.startswith("torchio.") and hasattr(value, "data"):
        return value.data
    return value


def _column(values: Tensor, like: Any) -> list[Any]:
    """The rows of a field, each of the type of `like`."""
    if isinstance(like, Tensor):
        if values.ndim == like.ndim and like.ndim == 4 and like.shape[-1] == 1:  # (C, W, H) beside (C, W, H, 1)
            values = values.unsqueeze(-1)
        parts = values.unbind(0)
        return list(parts) if type(like) is Tensor else [tensor_like(like, part) for part in parts]
    if isinstance(like, np.ndarray):
        return list(values.numpy())
    if isinstance(like, np.generic):
        convert: Callable[[Any], Any] = type(like)
        return [convert(value) for value in values.numpy()]
    rows: list[Any] = values.tolist()
    kind = type(like)
    return rows if not rows or type(rows[0]) is kind else [kind(row) for row in rows]


def _subject(values: Mapping[str, Any], like: Mapping[str, Any]) -> Any:
    """A Subject with `values`; images get the class and the affine of those in `like`."""
    import torchio as tio

    parts = dict(like)
    for name, value in values.items():
        template = like.get(name)
        if isinstance(template, tio.Image):
            parts[name] = type(template)(tensor=value, affine=template.affine)
        else:
            parts[name] = value
    return tio.Subject(parts)


def _difference(value: Any, spec: FieldSpec, *, subject: bool) -> str | None:
    """What keeps a field of `spec` from standing in for the real value, or None."""
    if isinstance(value, (Tensor, np.ndarray)):
        dtype = value.dtype if isinstance(value, Tensor) else torch.from_numpy(np.empty(0, value.dtype)).dtype
        shape = tuple(value.shape)
        fits = shape == spec.shape or (subject and shape == (*spec.shape, 1))
        if fits and dtype == spec.dtype:
            return None
        return f"real {shape} {dtype}, synthetic {spec.shape} {spec.dtype}"
    if isinstance(value, (bool, int, float, np.generic)):
        whole = isinstance(value, (bool, int, np.integer, np.bool_))
        if spec.shape == () and not (whole and spec.dtype.is_floating_point):
            return None
        return f"real is one {type(value).__name__}, synthetic {spec.shape} {spec.dtype}"
    return f"real is of type {type(value).__name__}, which cannot be made from a tensor"
