"""`FillMissing`: real samples that lack a modality get its translation from one that they have."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchgenaug.contracts import Synthesizer, SyntheticSource
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError, SampleIndexError
from torchgenaug.mixing.dataset.arguments import check_map_style
from torchgenaug.mixing.provenance import Provenance, attach_to_one, fingerprints, of_real
from torchgenaug.samples.hollow import hollow
from torchgenaug.samples.layout import PARENT, SampleLayout
from torchgenaug.samples.own_copy import OwnCopy
from torchgenaug.samples.torchio_values import is_subject, plain
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.types import Batch, FieldSpec

_COMPARED_TWICE = 4  # samples
_COMPARED = 0.02  # of the range: shards may hold intensities in 8 bits


class FillMissing(Dataset[Any]):
    """A real data set in which the samples that lack one modality have a synthetic one, made from another modality.

    A field is missing where a dict or Subject does not have it, or where its value is None (tuples: always so).
    Complete samples are handed out as they are, the very objects. The translation of sample k is a function of (seed,
    k): made when the sample is read, in the process that reads it, or rendered before::

        filled = FillMissing(real, translator, source="t1", target="t2")
        render_shards(filled.sequence, "t2", len(filled.missing))
        filled = FillMissing(real, ShardSource("t2"), source="t1", target="t2")

    Safe in workers, and picklable, if `real` and the translations are. `SyntheticMixDataset(filled, ...)` mixes it on.
    A validation set must not be filled: judge on real images only.

    Args:
        real: map-style data set of dicts, `tio.Subject`s, or (named) tuples and lists with None where a field is
            missing.
        translations: a synthesizer that makes `field` from the condition `condition`, such as a trained pix2pix or
            CycleGAN; or rendered translations, a source whose ``parent`` is the index in `real`.
        source: name of the modality to translate from; every sample has it.
        target: name of the modality to fill.
        condition: under which name the synthesizer takes the source: float32 (batch, channels, *spatial).
        field: which of its fields is the translation.
        fields: names of the positions of tuple samples.
        missing: indices of the samples that lack `target`; default: all are read once to find out. What they hold in
            its place, zeros for example, is replaced.
        seed: base seed of the translations.
        provenance: adds to each sample where it comes from, as in `SyntheticMixDataset`: ``is_synthetic`` says whether
            its `target` is, ``index`` and ``parent`` its index in `real`.

    Attributes:
        missing: (count,) int64, indices of the samples that are filled.
        sequence: the translations of all of them in this order, to be rendered; None with rendered ones.

    Raises:
        EmptyDatasetError: an empty data set, or one where nothing is missing.
        ConfigurationError: arguments that do not fit the samples.
        FieldMismatchError: translations of another shape than the real modality; rendered ones that are not there, or
            are of other samples.

    Example:
        >>> from torchgenaug import FunctionSynthesizer
        >>> def invert(seeds, conditions):
        ...     return {"image": 1 - conditions["source"]}
        >>> inverter = FunctionSynthesizer(invert, {"image": FieldSpec((1, 2, 2))}, fingerprint="invert")
        >>> real = [{"t1": torch.eye(2)[None], "t2": torch.zeros(1, 2, 2)}, {"t1": torch.eye(2)[None]}]
        >>> filled = FillMissing(real, inverter, source="t1", target="t2")
        >>> filled.missing.tolist(), filled[1]["t2"].tolist()
        ([1], [[[0.0, 1.0], [1.0, 0.0]]])
    """

    def __init__(
        self,
        real: Any,
        translations: Synthesizer | SyntheticSource,
        *,
        source: str,
        target: str,
        condition: str = "source",
        field: str = "image",
        fields: Sequence[str] | None = None,
        missing: Sequence[int] | npt.NDArray[np.integer] | None = None,
        seed: int = 0,
        provenance: bool = False,
    ) -> None:
        check_map_style(real, "real")
        if len(real) == 0:
            raise EmptyDatasetError("`real` is empty. There is nothing to fill; check its path or split.")
        if not isinstance(translations, Synthesizer | SyntheticSource):
            raise ConfigurationError(
                f"`translations` must be a synthesizer or a source of rendered samples, got "
                f"{type(translations).__name__}. Wrap a network of images as ModuleSynthesizer."
            )
        if field not in translations.fields:
            raise ConfigurationError(f"`field` must be one of {sorted(translations.fields)}, got {field!r}.")
        self.real, self.source, self.target, self.field = real, source, target, field
        self.provenance = provenance
        # What is read before the first sample is read through a copy: see `OwnCopy`.
        self._own = OwnCopy(real)
        self._layout = SampleLayout.of(self._own[0], fields)
        self._names = self._layout.names
        self.missing = self._found(missing)
        self._numbers = {int(index): number for number, index in enumerate(self.missing)}
        spec = translations.fields[field]
        self._like = self._template(spec)
        self.sequence: SyntheticSequence | None = None
        self._sources: _Sources | None = None
        self._supply: SyntheticSequence | SyntheticSource
        if isinstance(translations, Synthesizer):
            flat = len(spec.shape) == 3
            self._sources = _Sources(self, condition, flat)
            self.sequence = SyntheticSequence(translations, self._sources, seed=seed)
            self._supply, self._places = self.sequence, self._numbers
        else:
            self._supply, self._places = translations, self._positions(translations, condition)

    def __len__(self) -> int:
        return len(self.real)

    def set_epoch(self, epoch: int) -> None:
        """Passes the epoch on, if the data set wants to know it; the translations stay."""
        move = getattr(self.real, "set_epoch", None)
        if callable(move):
            move(epoch)

    def is_synthetic(self, indices: npt.ArrayLike | None = None) -> npt.NDArray[np.bool_]:
        """Which samples have a synthetic `target`: (n,) bool; all of them by default."""
        return np.isin(np.arange(len(self)) if indices is None else np.asarray(indices), self.missing)

    def __getitem__(self, index: int) -> Any:
        size = len(self)
        if not -size <= index < size:
            raise SampleIndexError(f"`index` must be in [{-size}, {size}), got {index}.")
        index = int(index) % size
        sample = self.real[index]
        origin = of_real(index)
        if index in self._numbers:
            value, origin = self._translation(index, sample)
            sample = self._put(sample, value)
        return attach_to_one(sample, self._layout.container, origin) if self.provenance else sample

    def read_source(self, index: int) -> Tensor:
        """The source modality of sample `index`: (channels, *spatial) float32."""
        return self._source_of(self._own[index], index)

    def _source_of(self, sample: Any, index: int) -> Tensor:
        value = self._get(sample, self.source)
        if value is None:
            raise ConfigurationError(
                f"`source` must be a field of every sample that is filled, got {self.source!r}, which sample {index} "
                "lacks. Leave such samples out, or fill that modality first."
            )
        return torch.as_tensor(plain(value)).float()

    def _get(self, sample: Any, name: str) -> Any:
        """The raw value of a field, None where it is missing."""
        if isinstance(sample, Mapping):
            return sample.get(name)
        return sample[self._names.index(name)]

    def _put(self, sample: Any, value: Any) -> Any:
        if is_subject(sample):
            return type(sample)({**dict(sample), self.target: value})
        if isinstance(sample, Mapping):
            return {**sample, self.target: value}
        row = [value if name == self.target else part for name, part in zip(self._names, sample, strict=True)]
        if hasattr(sample, "_fields"):
            return type(sample)(*row)
        return row if isinstance(sample, list) else tuple(row)

    def _found(self, missing: Sequence[int] | npt.NDArray[np.integer] | None) -> npt.NDArray[np.int64]:
        if self._layout.container == "tensor":
            raise ConfigurationError("`real` must hold samples of several fields, got tensors. Let it return dicts.")
        if self._layout.container not in ("dict", "subject"):
            unknown = [name for name in (self.source, self.target) if name not in self._names]
            if unknown:
                raise ConfigurationError(f"`source` and `target` must be among {self._names}, got {unknown}.")
        if missing is None:
            from tqdm import tqdm

            every = tqdm(range(len(self.real)), desc=f"looking for {self.target!r}", delay=3, leave=False)
            missing = [index for index in every if self._get(self._own[index], self.target) is None]
        found = np.unique(np.asarray(missing, dtype=np.int64))
        if len(found) == 0:
            raise EmptyDatasetError(
                f"`real` must lack {self.target!r} somewhere, got it in all {len(self.real)} samples. There is nothing "
                "to fill."
            )
        if found[0] < 0 or found[-1] >= len(self.real):
            raise ConfigurationError(f"`missing` must be in [0, {len(self.real)}), got {found[0]} to {found[-1]}.")
        return found

    def _template(self, spec: FieldSpec) -> Any:
        """A value like those of `target`: of a complete sample, or else of the source."""
        complete = next((index for index in range(len(self.real)) if index not in self._numbers), None)
        if complete is None:
            self.read_source(int(self.missing[0]))
            return hollow(self._get(self._own[int(self.missing[0])], self.source))
        like = self._get(self._own[complete], self.target)
        if like is None:
            raise ConfigurationError(f"`missing` must hold every sample without {self.target!r}, got not {complete}.")
        shape = tuple(plain(like).shape)
        if shape not in (spec.shape, (*spec.shape, 1)):
            raise FieldMismatchError(
                f"`translations` must make {self.field!r} of the shape of the real {self.target!r}, {shape}, got "
                f"{spec.shape}. Resize the data set, or train a translator of this size."
            )
        return hollow(like)

    def _positions(self, rendered: SyntheticSource, condition: str) -> dict[int, int]:
        """Index in `real` → position in the source."""
        if PARENT not in rendered.fields:
            raise ConfigurationError(
                f"`translations` must hold the field {PARENT!r}, got {sorted(rendered.fields)}. Render "
                "FillMissing(...).sequence, which has it."
            )
        parents = rendered.column(PARENT).tolist()
        positions = {int(parent): position for position, parent in reversed(list(enumerate(parents)))}
        absent = [int(index) for index in self.missing if int(index) not in positions]
        if absent:
            raise FieldMismatchError(
                f"`translations` must hold all {len(self.missing)} samples that lack {self.target!r}, got none for "
                f"{absent[:8]}. Render FillMissing(...).sequence with count=len(missing)."
            )
        first = int(self.missing[0])
        if condition in rendered.fields:
            there = rendered.read(np.array([positions[first]]))[condition][0].float()
            here = self.read_source(first)
            here = here.reshape(there.shape) if here.numel() == there.numel() else here
            width = float(here.max() - here.min())
            if here.shape != there.shape or float((here - there).abs().max()) > _COMPARED * max(width, 1e-6):
                raise FieldMismatchError(
                    f"`translations` must be of these samples, got another {condition!r} for sample {first}. They were "
                    "rendered from another data set or split. Render FillMissing(...).sequence of this one."
                )
        return positions

    def _translation(self, index: int, sample: Any) -> tuple[Any, Provenance]:
        """The translation of `sample`, which was just read at `index`: it is not read again for its source."""
        supply, at = self._supply, np.array([self._places[index]])
        if isinstance(supply, SyntheticSequence):
            assert self._sources is not None
            with self._sources.given(index, self._source_of(sample, index)):
                value = supply.batch(at)[self.field][0].cpu()
            number, fingerprint = int(at[0]), supply.fingerprint
        else:
            value, number = supply.read(at)[self.field][0], int(supply.ids(at)[0])
            fingerprint = fingerprints(supply, at)[0]
        origin = of_real(index)
        origin["is_synthetic"], origin["parent"], origin["id"] = True, index, number
        origin["seed"], origin["fingerprint"] = f"{int(supply.seeds(at)[0]):016x}", fingerprint
        return self._as_like(value, sample), origin

    def _as_like(self, value: Tensor, sample: Any) -> Any:
        """The translation in the type of the real modality; a TorchIO image gets the affine of its own source."""
        like = plain(self._like)
        value = value.reshape(tuple(like.shape)) if value.ndim + 1 == like.ndim else value
        if isinstance(like, np.ndarray):
            return _rounded(value, torch.from_numpy(np.empty(0, like.dtype)).dtype).numpy()
        value = _rounded(value, like.dtype)
        if like is self._like:
            return value
        origin = self._get(sample, self.source)
        return type(self._like)(tensor=value, affine=origin.affine)


def _rounded(value: Tensor, dtype: torch.dtype) -> Tensor:
    """`value` in `dtype`; integers get the nearest whole number within their range, instead of wrapping around."""
    if dtype.is_floating_point or value.dtype == dtype:
        return value.to(dtype)
    limits = torch.iinfo(dtype)
    return value.double().round().clamp(limits.min, limits.max).to(dtype)


class _Sources:
    """Conditions: the source modality of the samples that lack the target, in order, and their index."""

    def __init__(self, filled: FillMissing, name: str, flat: bool) -> None:
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
