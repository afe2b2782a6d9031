"""Conditions of `FillMissing`: what the samples that lack a modality have in its place."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.samples.layout import PARENT
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.types import Batch, FieldSpec

_COMPARED_TWICE = 4  # samples


class Incomplete(Protocol):
    """What `MissingSources` reads from: a `FillMissing`."""

    real: Any
    source: str | tuple[str, ...]
    missing: npt.NDArray[np.int64]

    def read_source(self, index: int) -> Tensor:
        """What sample `index` is translated from."""
        ...


@dataclass(frozen=True)
class Modalities:
    """Several modalities as one condition: their channels, and behind them a mark for each of what is missing.

    The format is that of `torchgenaug.nets.ModalityUNet`: marks are `high` where a channel is missing, else `low`.

    Attributes:
        names: in the order of the model's channels.
        channels: of each, such as 1 of a grey image and 3 of a colour image.
        low: value of what is missing.
        high: upper end of the model's range.
    """

    names: tuple[str, ...]
    channels: tuple[int, ...]
    low: float
    high: float

    def stack(self, values: Sequence[Tensor | None], index: int) -> Tensor:
        """The condition (2 · all channels, *spatial) float32 of sample `index`.

        Args:
            values: one per name, (channels, *spatial); None where it is missing.
            index: for messages.

        Raises:
            ConfigurationError: none of them is there.
            FieldMismatchError: they differ in shape, or have other channels than the model.
        """
        present = {name: value for name, value in zip(self.names, values, strict=True) if value is not None}
        if not present:
            raise ConfigurationError(
                f"`real` must have one of the modalities {list(self.names)} in every sample that is filled, got none "
                f"at index {index}. There is nothing to translate from. Leave such samples out, or correct the names."
            )
        shapes = {name: tuple(value.shape) for name, value in present.items()}
        spatial = next(iter(shapes.values()))[1:]
        wanted = {name: (count, *spatial) for name, count in zip(self.names, self.channels, strict=True)}
        if any(shape != wanted[name] for name, shape in shapes.items()):
            raise FieldMismatchError(
                f"`real` must hold modalities of one size, with {dict(zip(self.names, self.channels, strict=True))} "
                f"channel(s) in every sample, got {shapes} at index {index}. Resample them onto one grid first."
            )
        hollow = [torch.full(wanted[name], self.low) for name in self.names]
        filled = [empty if value is None else value.float() for empty, value in zip(hollow, values, strict=True)]
        marks = [
            torch.full_like(empty, self.high if value is None else self.low)
            for empty, value in zip(hollow, values, strict=True)
        ]
        return torch.cat([*filled, *marks])

    def part(self, image: Tensor, name: str) -> Tensor:
        """The channels of one modality of what the model returned."""
        first = sum(self.channels[: self.names.index(name)])
        return image[first : first + self.channels_of(name)]

    def channels_of(self, name: str) -> int:
        """How many channels a modality has."""
        return self.channels[self.names.index(name)]


def checked_modalities(names: tuple[str, ...], spec: FieldSpec, channels_of: Callable[[str], int | None]) -> Modalities:
    """The modalities that are the channels of a model's images, checked against their specification.

    Args:
        names: as the user gave them.
        spec: of the model's images.
        channels_of: name → channels of that modality in the real samples; None where no sample has it.

    Raises:
        ConfigurationError: names that do not fit the model's channels.
    """
    total = spec.shape[0]
    if len(set(names)) < max(2, len(names)) or spec.value_range is None:
        raise ConfigurationError(
            f"`source` must be one name, or the different names of the modalities that the model makes, two or more, "
            f"got {names!r} for {spec}. Name them in the order of its channels."
        )
    known = {name: channels_of(name) for name in names}
    unknown = [name for name, count in known.items() if count is None]
    rest = total - sum(count or 0 for count in known.values())
    each = rest // len(unknown) if unknown else 0
    if rest != each * len(unknown) or (unknown and each < 1):
        found = {name: "in no sample" if count is None else count for name, count in known.items()}
        raise ConfigurationError(
            f"`source` must name modalities with the {total} channels that the model makes, got {found}. Name all that "
            "it was trained on, in the order of its channels."
        )
    return Modalities(names, tuple(each if count is None else count for count in known.values()), *spec.value_range)


class MissingSources:
    """Conditions: the source modality of the samples that lack the target, in order, and their index."""

    def __init__(self, filled: Incomplete, name: str, flat: bool) -> None:
        self._filled, self._name, self._flat = filled, name, flat
        self._given = threading.local()
        shape = tuple(self._read(int(filled.missing[0])).shape)
        limits = (0, max(1, len(filled.real) - 1))
        self.fields: Mapping[str, FieldSpec] = {
            name: FieldSpec(shape),
            PARENT: FieldSpec((), torch.int64, kind="scalar", value_range=limits),
        }
        for index in filled.missing[:_COMPARED_TWICE].tolist():
            if not torch.equal(self._read(index).nan_to_num(), self._read(index).nan_to_num()):
                raise ConfigurationError(
                    f"`real` must return the same sample each time, got two different {filled.source!r} at index "
                    f"{index}. Source and translation would not belong together. Put random transforms behind "
                    "FillMissing: SyntheticMixDataset(filled, ..., transform=...)."
                )
        digest = hashlib.sha256(repr(("missing", filled.source, name, shape, filled.missing.tolist())).encode())
        for index in filled.missing[:: max(1, len(filled.missing) // 8)].tolist():
            digest.update(self._read(index).contiguous().numpy().tobytes())
        self.fingerprint = digest.hexdigest()

    def __call__(self, ids: Sequence[int]) -> Batch:
        """The sources of samples `ids`, and their indices in the real data set."""
        parents = self._filled.missing[np.asarray(ids, dtype=np.int64) % len(self._filled.missing)]
        sources = [self._read(int(parent)) for parent in parents]
        shape = self.fields[self._name].shape
        for parent, value in zip(parents, sources, strict=True):
            if tuple(value.shape) != shape:
                raise FieldMismatchError(
                    f"`real` must hold {self._filled.source!r} of one shape, {shape} as in the first sample that is "
                    f"filled, got {tuple(value.shape)} at index {parent}. Crop or resample the data set first."
                )
        return {self._name: torch.stack(sources), PARENT: torch.from_numpy(parents)}

    @contextmanager
    def given(self, index: int, source: Tensor) -> Iterator[None]:
        """Within it, and in this thread, the source of sample `index` is not read but taken from here."""
        self._given.source = (index, source)
        try:
            yield
        finally:
            self._given.source = None

    def _read(self, index: int) -> Tensor:
        given = getattr(self._given, "source", None)
        value = given[1] if given is not None and given[0] == index else self._filled.read_source(index)
        # A 2D translator gets (C, W, H), not TorchIO's (C, W, H, 1).
        return value.squeeze(-1) if self._flat and value.ndim == 4 and value.shape[-1] == 1 else value

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_given": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _given=threading.local())


class MadeWhenRead(NamedTuple):
    """Translations that are made in the process that reads them."""

    sequence: SyntheticSequence
    sources: MissingSources
