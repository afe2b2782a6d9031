"""`FillMissing`: real samples that lack a modality get its translation from those that they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchgenaug.contracts import Synthesizer, SyntheticSource
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError, SampleIndexError
from torchgenaug.mixing.dataset.arguments import check_map_style
from torchgenaug.mixing.dataset.fill_checks import check_names, checked_missing, checked_targets
from torchgenaug.mixing.dataset.fill_sources import MadeWhenRead, MissingSources, checked_modalities
from torchgenaug.mixing.dataset.rendered_translations import rendered_positions
from torchgenaug.mixing.provenance import Provenance, attach_to_one, fingerprints, of_real
from torchgenaug.progress import counted
from torchgenaug.samples.hollow import hollow
from torchgenaug.samples.layout import SampleLayout
from torchgenaug.samples.own_copy import OwnCopy
from torchgenaug.samples.rounding import rounded_to
from torchgenaug.samples.torchio_values import is_subject, plain
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.types import FieldSpec


class FillMissing(Dataset[Any]):
    """A real data set in which the samples that lack a modality have a synthetic one, made from other modalities.

    A field is missing where a dict or Subject does not have it, or where its value is None (tuples: always so).
    Complete samples are handed out as they are, the very objects. The translation of sample k is a function of (seed,
    k): made when the sample is read, in the process that reads it, or rendered before::

        filled = FillMissing(real, translator, source="t1", target="t2")
        render_shards(filled.sequence, "t2", len(filled.missing))
        filled = FillMissing(real, ShardSource("t2"), source="t1", target="t2")

    A model of several modalities, such as a trained ``mm-gan``, fills whatever a sample lacks from whatever it has::

        filled = FillMissing(real, model, source=["t1", "t2", "flair"])

    Safe in workers, and picklable, if `real` and the translations are. `SyntheticMixDataset(filled, ...)` mixes it on.
    A validation set must not be filled: judge on real images only.

    Args:
        real: map-style data set of dicts, `tio.Subject`s, or (named) tuples and lists with None where a field is
            missing.
        translations: a synthesizer that makes `field` from the condition `condition`, such as a trained pix2pix or
            CycleGAN; or rendered translations, a source whose ``parent`` is the index in `real`.
        source: name of the modality to translate from; every sample has it. Or several, in the order of the channels
            of a model that takes and makes all of them: every sample has at least one. A modality may have several
            channels, such as colours. The condition then holds the modalities, and for each channel a mark whether it
            is missing, as `Modalities.stack` says.
        target: name of the modality to fill; None with several sources: any of them that a sample lacks.
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
        >>> from torchgenaug import FieldSpec, FunctionSynthesizer
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
        source: str | Sequence[str],
        target: str | None = None,
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
        check_names(source, target, condition)
        if field not in translations.fields:
            raise ConfigurationError(f"`field` must be one of {sorted(translations.fields)}, got {field!r}.")
        self.real, self.target, self.field = real, target, field
        self.source = source if isinstance(source, str) else tuple(source)
        spec = translations.fields[field]
        self._targets = checked_targets(self.source, target, listed=missing is not None)
        self.provenance = provenance
        # What is read before the first sample is read through a copy: see `OwnCopy`.
        self._own = OwnCopy(real)
        self._layout = SampleLayout.of(self._own[0], fields)
        self._names = self._layout.names
        self.missing = self._found(missing)
        self._numbers = {int(index): number for number, index in enumerate(self.missing)}
        several = None if isinstance(self.source, str) else self.source
        self._modalities = None if several is None else checked_modalities(several, spec, self._channels_of)
        self._likes = {name: self._template(name, spec) for name in self._targets}
        self.sequence: SyntheticSequence | None = None
        self._supply: MadeWhenRead | SyntheticSource
        if isinstance(translations, Synthesizer):
            sources = MissingSources(self, condition, flat=len(spec.shape) == 3)
            self.sequence = SyntheticSequence(translations, sources, seed=seed)
            self._supply, self._places = MadeWhenRead(self.sequence, sources), self._numbers
        else:
            self._supply, self._places = (
                translations,
                rendered_positions(translations, self.missing, self._wanted, condition, self.read_source),
            )
        self._own.release()

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
        """What sample `index` is translated from: (channels, *spatial) float32."""
        return self._source_of(self._own[index], index)

    def _source_of(self, sample: Any, index: int) -> Tensor:
        if self._modalities is not None:
            lacking = self._lacking(sample, index)
            values = [None if name in lacking else self._get(sample, name) for name in self._modalities.names]
            tensors = [None if value is None else torch.as_tensor(plain(value)).float() for value in values]
            return self._modalities.stack(tensors, index)
        value = self._get(sample, str(self.source))
        if value is None:
            raise ConfigurationError(
                f"`source` must be a field of every sample that is filled, got {self.source!r}, which sample {index} "
                "lacks. Leave such samples out, or fill that modality first."
            )
        return torch.as_tensor(plain(value)).float()

    def _lacking(self, sample: Any, index: int) -> tuple[str, ...]:
        """Which targets sample `index` lacks; one that the user listed as missing lacks its only target."""
        if len(self._targets) == 1:
            return self._targets if index in self._numbers else ()
        return tuple(name for name in self._targets if self._get(sample, name) is None)

    def _get(self, sample: Any, name: str) -> Any:
        """The raw value of a field, None where it is missing."""
        if isinstance(sample, Mapping):
            return sample.get(name)
        return sample[self._names.index(name)]

    def _put(self, sample: Any, values: Mapping[str, Any]) -> Any:
        if is_subject(sample):
            return type(sample)({**dict(sample), **values})
        if isinstance(sample, Mapping):
            return {**sample, **values}
        row = [values.get(name, part) for name, part in zip(self._names, sample, strict=True)]
        if hasattr(sample, "_fields"):
            return type(sample)(*row)
        return row if isinstance(sample, list) else tuple(row)

    def _found(self, missing: Sequence[int] | npt.NDArray[np.integer] | None) -> npt.NDArray[np.int64]:
        if self._layout.container == "tensor":
            raise ConfigurationError("`real` must hold samples of several fields, got tensors. Let it return dicts.")
        if self._layout.container not in ("dict", "subject"):
            sources = (self.source,) if isinstance(self.source, str) else self.source
            unknown = [name for name in dict.fromkeys((*sources, *self._targets)) if name not in self._names]
            if unknown:
                raise ConfigurationError(f"`source` and `target` must be among {self._names}, got {unknown}.")
        if missing is None:
            every = counted(len(self.real), f"looked for {self._wanted} in", "samples")
            missing = [index for index in every if self._lacks_any(self._own[index])]
        found = checked_missing(missing, len(self.real))
        if len(found) == 0:
            raise EmptyDatasetError(
                f"`real` must lack {self._wanted} somewhere, got it in all {len(self.real)} samples. There is nothing "
                "to fill."
            )
        return found

    def _lacks_any(self, sample: Any) -> bool:
        return any(self._get(sample, name) is None for name in self._targets)

    @property
    def _wanted(self) -> str:
        return " or ".join(map(repr, self._targets))

    def _first(self, name: str) -> Any:
        """What the first sample that has a modality holds of it; None where no sample has it."""
        listed = self._targets == (name,)  # samples that are listed as missing may hold anything in its place
        for index in range(len(self.real)):
            if listed and index in self._numbers:
                continue
            like = self._get(self._own[index], name)
            if like is not None:
                return like
            if listed:
                raise ConfigurationError(f"`missing` must hold every sample without {name!r}, got not {index}.")
        return None

    def _channels_of(self, name: str) -> int | None:
        value = self._first(name)
        return None if value is None else int(plain(value).shape[0])

    def _template(self, target: str, spec: FieldSpec) -> Any:
        """A value like those of `target`: of a sample that has it, or else of a source."""
        like = self._first(target)
        if like is None:
            first = int(self.missing[0])
            self.read_source(first)
            sources = (self.source,) if isinstance(self.source, str) else self.source
            values = (self._get(self._own[first], name) for name in sources if name != target)
            return hollow(next(value for value in values if value is not None))
        channels = spec.shape[0] if self._modalities is None else self._modalities.channels_of(target)
        wanted = (channels, *spec.shape[1:])
        shape = tuple(plain(like).shape)
        if shape not in (wanted, (*wanted, 1)):
            raise FieldMismatchError(
                f"`translations` must make {self.field!r} of the shape of the real {target!r}, {shape}, got "
                f"{wanted}. Resize the data set, or train a translator of this size."
            )
        return hollow(like)

    def _translation(self, index: int, sample: Any) -> tuple[dict[str, Any], Provenance]:
        """What `sample`, which was just read at `index`, lacks: it is not read again for its source."""
        supply, at = self._supply, np.array([self._places[index]])
        if isinstance(supply, MadeWhenRead):
            sequence = supply.sequence
            with supply.sources.given(index, self._source_of(sample, index)):
                value = sequence.batch(at)[self.field][0].cpu()
            number, fingerprint, seed = int(at[0]), sequence.fingerprint, sequence.seeds(at)[0]
        else:
            value, number = supply.read(at)[self.field][0], int(supply.ids(at)[0])
            fingerprint, seed = fingerprints(supply, at)[0], supply.seeds(at)[0]
        origin = of_real(index)
        origin["is_synthetic"], origin["parent"], origin["id"] = True, index, number
        origin["seed"], origin["fingerprint"] = f"{int(seed):016x}", fingerprint
        parts = {
            name: value if self._modalities is None else self._modalities.part(value, name)
            for name in self._lacking(sample, index)
        }
        return {name: self._as_like(part, name, sample) for name, part in parts.items()}, origin

    def _as_like(self, value: Tensor, target: str, sample: Any) -> Any:
        """The translation in the type of the real modality; a TorchIO image gets the affine of its own source."""
        kept = self._likes[target]
        like = plain(kept)
        value = value[..., None] if value.ndim + 1 == like.ndim else value
        if isinstance(like, np.ndarray):
            return rounded_to(torch.from_numpy(np.empty(0, like.dtype)).dtype, value).numpy()
        value = rounded_to(like.dtype, value)
        if like is kept:
            return value
        sources = (self.source,) if isinstance(self.source, str) else self.source
        origin = next(found for name in sources if name != target and (found := self._get(sample, name)) is not None)
        return type(kept)(tensor=value, affine=origin.affine)
