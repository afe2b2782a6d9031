"""Reads real and synthetic samples, converts both to the real set's type, applies transforms, adds provenance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug import seeding
from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.mixing import provenance
from torchgenaug.mixing.dataset.fitting import stated
from torchgenaug.mixing.dataset.map_source import MapSource, reads_batches
from torchgenaug.mixing.dataset.meta_tensors import as_alike, meta_names
from torchgenaug.mixing.dataset.opened import Opened, check_provenance, open_samples
from torchgenaug.mixing.dataset.shared import shared
from torchgenaug.mixing.dataset.synthetic_side import MapSide
from torchgenaug.mixing.dataset.torchio_queue import unread_subjects
from torchgenaug.samples.intensity import IntensityWatch
from torchgenaug.samples.layout import Fields, checked_fields

_logger = logging.getLogger("torchgenaug")
_STATED, _COMPARED = 0, 1


class SampleMixer:
    """Makes the samples of a mix. Picklable if its parts are.

    Nothing is read before a sample is needed, and then in the process that needs it: a data set that opens its files at
    the first read is sent to workers unopened.

    Args:
        real: map-style data set.
        source: where synthetic samples are read.
        fields: names of the fields, see `SyntheticMixDataset`.
        transforms: for real samples, for synthetic ones, and for all after that; None does nothing.
        seed: base seed of the transforms.
        provenance: whether each sample says where it comes from.
    """

    def __init__(
        self,
        real: Any,
        source: SyntheticSource | MapSource,
        fields: Fields | None,
        *,
        transforms: Sequence[Callable[[Any], Any] | None],
        seed: int,
        provenance: bool,
    ) -> None:
        self.real, self.source, self.seed, self.provenance = real, source, seed, provenance
        self._fields, self._names, self._transforms = fields, checked_fields(fields), tuple(transforms)
        for transform in transforms:
            if transform is not None and not callable(transform):
                raise ConfigurationError(
                    f"A transform must be a function sample -> sample, got {type(transform).__name__}."
                )
        self._transforms_samples = any(transform is not None for transform in transforms)
        self._opened: Opened | None = None
        self._meta_names: tuple[str, ...] = ()
        self._watch: IntensityWatch | None = None
        # What was done once for all workers: conversions stated, intensities compared.
        self._once = shared(torch.zeros(2, dtype=torch.uint8))
        self._compared = False

    def data_sets(self) -> tuple[Any, Any]:
        """The real data set and the synthetic source."""
        return self.real, self.source

    @property
    def changes_samples(self) -> bool:
        """Whether a real sample is handed out as something else than the object that the real set returns."""
        return self.provenance or self._transforms_samples

    def opened(self, *, draws: bool) -> Opened:
        """What the samples look like; looked up once in each process.

        Args:
            draws: whether synthetic samples are needed.

        Raises:
            ConfigurationError: positions without names; no place for provenance.
            FieldMismatchError: synthetic samples do not fit the real ones.
        """
        opened = self._opened
        if opened is None or (draws and opened.synthetic is None):
            opened = open_samples(
                self.real,
                self.source,
                self._fields,
                self._transforms,
                seed=self.seed,
                draws=draws and len(self.source) > 0,
            )
            if self.provenance:
                check_provenance(opened.target)
            self._opened = opened
            self._meta_names = meta_names(opened.target.template)
            self._state(opened)
        return opened

    def samples(self, codes: Sequence[int], indices: Sequence[int], epoch: int) -> list[Any]:
        """A batch of samples.

        Args:
            codes: where each is read: a position in `real`, or ``~position`` in the source.
            indices: (n,) their indices in the mix, which their transforms depend on.
            epoch: which their transforms depend on, too.
        """
        index = np.asarray(indices, np.int64) if self._transforms_samples else None
        samples, origins = self._read(codes, index, epoch)
        if self._meta_names:
            samples = as_alike(samples, codes, self._meta_names)
        if self._transforms_samples or self.provenance:
            opened = self.opened(draws=bool(codes) and min(codes) < 0)
            if opened.transform is not None and index is not None:
                samples = opened.transform(samples, seeding.derive(self.seed, seeding.TRANSFORM, epoch, index))
            if self.provenance:
                samples = [
                    provenance.attach(sample, opened.target, origin)
                    for sample, origin in zip(samples, origins, strict=True)
                ]
        return samples

    def _read(
        self, codes: Sequence[int], index: npt.NDArray[np.int64] | None, epoch: int
    ) -> tuple[list[Any], list[Any]]:
        """The samples after the transform of their side, in the order of `codes`; their provenance, if wanted."""
        draws = bool(codes) and min(codes) < 0
        if not self.changes_samples and not reads_batches(self.real):
            samples = self._one_by_one(codes) if self._reads_one_by_one(draws) else self._row_by_row(codes, draws)
            if samples is not None:
                if not self._compared:
                    self._compare(samples, codes)
                return samples, []
        real_at = [code for code in codes if code >= 0]
        real = self.real_samples(real_at)
        transform = self.opened(draws=draws).real_transform if self._transforms[0] is not None and real else None
        if transform is not None and index is not None:
            rows = [row for row, code in enumerate(codes) if code >= 0]
            real = transform(real, seeding.derive(self.seed, seeding.REAL_TRANSFORM, epoch, index[rows]))
        synthetic: list[Any] = []
        made_from: list[Any] = []
        if draws:
            rows = [row for row, code in enumerate(codes) if code < 0]
            seeds = (
                None if index is None else seeding.derive(self.seed, seeding.SYNTHETIC_TRANSFORM, epoch, index[rows])
            )
            synthetic, made_from = self._synthetic([~code for code in codes if code < 0], seeds)
        taken, drawn = iter(real).__next__, iter(synthetic).__next__
        samples = [drawn() if code < 0 else taken() for code in codes]
        self._compare(samples, codes)
        origin = iter(made_from).__next__
        of_real = provenance.of_real_in(self.source)
        return samples, [origin() if code < 0 else of_real(code) for code in codes] if self.provenance else []

    def _reads_one_by_one(self, draws: bool) -> bool:
        """Whether samples are just what ``real[position]`` and ``dataset[position]`` give."""
        if not isinstance(self.source, MapSource) or reads_batches(self.source.dataset):
            return False
        if not draws:
            return self._names is None
        opened = self.opened(draws=True)
        side = opened.synthetic
        return isinstance(side, MapSide) and side.is_identity and not opened.raw.restricted and not opened.raw.crops

    def _one_by_one(self, codes: Sequence[int]) -> list[Any]:
        # As an unmixed loader reads: nothing is sorted out first and put together again.
        real, synthetic = self.real, self.source.dataset if isinstance(self.source, MapSource) else None
        samples: list[Any] = []
        append, code = samples.append, -1
        try:
            for code in codes:
                append(real[code] if code >= 0 else synthetic[~code])  # type: ignore[index]
        except Exception as error:
            if code >= 0:
                error.add_note(f"while reading real sample {code}")
            raise
        return samples

    def _row_by_row(self, codes: Sequence[int], draws: bool) -> list[Any] | None:
        """Synthetic samples read as a batch, real ones in their places; None where more has to be done to them."""
        opened = self.opened(draws=True) if draws else self._opened
        if not draws or opened is None or opened.synthetic is None or opened.raw.restricted or opened.raw.crops:
            return None
        taken = iter(opened.synthetic.samples([~code for code in codes if code < 0], None)[0]).__next__
        real, samples = self.real, list[Any]()
        append, code = samples.append, -1
        try:
            for code in codes:
                append(real[code] if code >= 0 else taken())
        except Exception as error:
            if code >= 0:
                error.add_note(f"while reading real sample {code}")
            raise
        return samples

    def real_sample(self, index: Any) -> Any:
        """A sample of the real set as it is: whatever index the set takes, it takes here."""
        try:
            sample = self.real[index]
        except Exception as error:
            error.add_note(f"while reading real sample {index}")
            raise
        return self._restricted([sample])[0]

    def real_samples(self, positions: list[int]) -> list[Any]:
        """Samples of the real set as they are, with only the fields that are handed out."""
        samples: list[Any] = []
        if not positions:
            return samples
        if reads_batches(self.real):
            samples += self.real.__getitems__(positions)
            if len(samples) != len(positions):
                raise FieldMismatchError(
                    f"`real.__getitems__` must return one sample per index, got {len(samples)} for {len(positions)}."
                )
        else:
            real, append = self.real, samples.append
            try:
                for position in positions:
                    append(real[position])
            except Exception as error:
                error.add_note(f"while reading real sample {positions[len(samples)]}")
                raise
        return self._restricted(samples)

    def _restricted(self, samples: list[Any]) -> list[Any]:
        if self._names is None or (self._opened is not None and not self._opened.raw.restricted):
            return samples
        first = samples[0][0] if isinstance(samples[0], list) and samples[0] else samples[0]
        if not isinstance(first, Mapping):
            return samples  # names of positions
        layout = self.opened(draws=False).raw
        if not layout.restricted:
            return samples
        return [[layout.restrict(part) for part in one] if layout.crops else layout.restrict(one) for one in samples]

    def _synthetic(self, positions: list[int], seeds: seeding.UInt64Array | None) -> tuple[list[Any], list[Any]]:
        """Samples of the source like those of the real set, and their provenance if it is wanted.

        Args:
            positions: where they are read.
            seeds: one per sample, which a `synthetic_transform` needs.
        """
        opened, source = self.opened(draws=True), self.source
        side, crops = opened.synthetic, opened.raw.crops
        if side is None or not positions:
            return [], []
        if crops:  # as many samples as the real lists have; over the epochs all are used equally often here, too
            positions = [(place * crops + k) % len(source) for place in positions for k in range(crops)]
            seeds = None if seeds is None else seeding.derive(seeds[:, None], np.arange(crops)).reshape(-1)
        if self._transforms[1] is None:
            seeds = None
        samples, batch = side.samples(positions, seeds)
        self._state(opened)
        origins: list[Any] = list(provenance.of_synthetic(source, positions, batch)) if self.provenance else []
        if crops:
            samples = [samples[start : start + crops] for start in range(0, len(samples), crops)]
            origins = [origins[start : start + crops] for start in range(0, len(origins), crops)]
        return samples, origins

    def subjects(self, is_synthetic: npt.NDArray[np.bool_], positions: npt.NDArray[np.int64], epoch: int) -> list[Any]:
        """See `SyntheticMixDataset.dry_iter`; where each index is read, as `MixPlan.look_up` says."""

        def synthetic(indices: npt.NDArray[np.int64]) -> list[Any]:
            seeds = seeding.derive(self.seed, seeding.SYNTHETIC_TRANSFORM, epoch, indices)
            return self._synthetic(positions[indices].tolist(), seeds)[0]

        return unread_subjects(self.real, self._names, is_synthetic, positions, synthetic)

    def _state(self, opened: Opened) -> None:
        """Says once what is converted, filled or left out."""
        if opened.synthetic is not None and opened.synthetic.notes and not self._once[_STATED]:
            self._once[_STATED] = 1
            _logger.warning(stated(opened.synthetic.notes))

    def _compare(self, samples: list[Any], codes: Sequence[int]) -> None:
        """Shows the first samples of either kind to the watch; afterwards this costs nothing."""
        opened = self._opened
        if self._compared or opened is None or opened.synthetic is None:
            return
        if self._watch is None:
            self._watch = IntensityWatch(opened.target, opened.synthetic.kinds)
        if self._once[_COMPARED]:  # in another process
            self._compared = True
            return
        if self._watch.will_be_done(sum(code < 0 for code in codes), len(codes)):
            self._once[_COMPARED] = 1
        self._watch.show(samples, (code < 0 for code in codes), stacklevel=6)
        self._compared = self._watch.is_done

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "_watch": None}
