"""`SampleMixer`: reads real and synthetic samples and makes them alike: one type, transforms, provenance."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgenaug import seeding
from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.mixing import provenance
from torchgenaug.mixing.dataset.map_source import MapSource, reads_batches
from torchgenaug.samples.intensity import warn_if_intensities_differ
from torchgenaug.samples.layout import SampleLayout
from torchgenaug.samples.seeded_transform import SeededTransform
from torchgenaug.types import FieldKind

_PROBED = 4  # samples of either kind that are looked at when the mix is built


class SampleMixer:
    """Makes the samples of a mix. Picklable if its parts are.

    Args:
        real: map-style data set.
        source: where synthetic samples are read.
        layout: the type of the real samples.
        kinds: what the fields are.
        transforms: for real samples, for synthetic ones, and for all after that; None does nothing.
        seed: base seed of the transforms.
        provenance: whether each sample says where it comes from.
    """

    def __init__(
        self,
        real: Any,
        source: SyntheticSource | MapSource,
        layout: SampleLayout,
        kinds: Mapping[str, FieldKind],
        *,
        transforms: Sequence[Callable[[Any], Any] | None],
        seed: int,
        provenance: bool,
    ) -> None:
        self.real, self.source, self.layout, self.kinds = real, source, layout, dict(kinds)
        self.seed, self.provenance = seed, provenance
        self._transforms = [
            None if transform is None else SeededTransform(transform, layout, kinds) for transform in transforms
        ]
        self._transforms_samples = any(transform is not None for transform in transforms)

    @property
    def changes_samples(self) -> bool:
        """Whether a real sample is handed out as something else than the object that the real set returns."""
        return self.provenance or self._transforms_samples

    def samples(self, codes: Sequence[int], indices: Sequence[int], epoch: int) -> list[Any]:
        """A batch of samples.

        Args:
            codes: where each is read: a position in `real`, or ``~position`` in the source.
            indices: (n,) their indices in the mix, which their transforms depend on.
            epoch: which their transforms depend on, too.
        """
        samples = self._read(codes)
        if self._transforms_samples:
            samples = self._transformed(samples, codes, np.asarray(indices, np.int64), epoch)
        if self.provenance:
            samples = [self._with_provenance(sample, code) for sample, code in zip(samples, codes, strict=True)]
        return samples

    def _read(self, codes: Sequence[int]) -> list[Any]:
        """The samples as they are stored, in the order of `codes`."""
        source, layout = self.source, self.layout
        if not isinstance(source, MapSource) or not source.one_by_one or layout.restricted or reads_batches(self.real):
            made = iter(self.synthetic_samples([~code for code in codes if code < 0])).__next__
            taken = iter(self.real_samples([code for code in codes if code >= 0])).__next__
            return [made() if code < 0 else taken() for code in codes]
        # As an unmixed loader reads: nothing is sorted out first and put together again.
        real, synthetic = self.real, source.dataset
        samples: list[Any] = []
        append, code = samples.append, -1
        try:
            for code in codes:
                append(real[code] if code >= 0 else synthetic[~code])
        except Exception as error:
            if code >= 0:
                error.add_note(f"while reading real sample {code}")
            raise
        return samples

    def probe(self) -> None:
        """Looks at a few samples of either kind: transformed, they must fit each other, and should look alike."""
        real_at = np.unique(np.linspace(0, len(self.real) - 1, _PROBED).astype(np.int64))
        synthetic_at = np.arange(min(_PROBED, len(self.source)))
        pairs = []
        for positions, synthetic in ((real_at, False), (synthetic_at, True)):
            drawn = (self.synthetic_samples if synthetic else self.real_samples)(positions.tolist())
            side = self._transforms[1 if synthetic else 0]
            seeds = seeding.derive(self.seed, seeding.PLAN, 0, positions)
            pairs.append(drawn if side is None else side(drawn, seeds))
        real, synthetic_samples = pairs
        fields = self.layout.names
        layout = SampleLayout.of(real[0], fields)
        MapSource([synthetic_samples[0]], layout)
        for name in fields:
            if self.kinds.get(name) == "intensity":
                warn_if_intensities_differ(real, synthetic_samples, layout, name)

    def real_samples(self, positions: list[int]) -> list[Any]:
        """Samples of the real set as they are, with only the fields that are handed out."""
        samples: list[Any] = []
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
        return [self.layout.restrict(sample) for sample in samples] if self.layout.restricted else samples

    def synthetic_samples(self, positions: list[int]) -> list[Any]:
        """Samples of the source, in the type of the real ones."""
        if not positions:
            return []
        if isinstance(self.source, MapSource):
            return self.source.samples(positions)
        return self.layout.samples(self.source.read(np.array(positions)), len(positions))

    def subjects(self, is_synthetic: npt.NDArray[np.bool_], positions: npt.NDArray[np.int64]) -> list[Any]:
        """See `SyntheticMixDataset.dry_iter`; where each is read, as `MixPlan.look_up` says."""
        if self.layout.container != "subject":
            raise ConfigurationError(
                f"`dry_iter` is for samples that are torchio Subjects, got the type {self.layout.container}. "
                "torchio.Queue needs a real set of Subjects, such as tio.SubjectsDataset."
            )
        layout, listed = self.layout, getattr(self.real, "dry_iter", lambda: self.real)()
        if "num_samples" in layout.names:
            made: Iterator[Any] = iter(self.synthetic_samples(positions[is_synthetic].tolist()))
        else:
            made = itertools.repeat(layout.restrict(layout.template))
        subjects = [
            next(made) if synthetic else listed[position]
            for synthetic, position in zip(is_synthetic.tolist(), positions.tolist(), strict=True)
        ]
        return [layout.restrict(subject) for subject in subjects] if layout.restricted else subjects

    def _transformed(
        self, samples: list[Any], codes: Sequence[int], index: npt.NDArray[np.int64], epoch: int
    ) -> list[Any]:
        real, synthetic, both = self._transforms
        for transform, wanted, purpose in (
            (real, False, seeding.REAL_TRANSFORM),
            (synthetic, True, seeding.SYNTHETIC_TRANSFORM),
        ):
            rows = [row for row, code in enumerate(codes) if (code < 0) == wanted]
            if transform is not None and rows:
                seeds = seeding.derive(self.seed, purpose, epoch, index[rows])
                for row, sample in zip(rows, transform([samples[row] for row in rows], seeds), strict=True):
                    samples[row] = sample
        if both is not None:
            samples = both(samples, seeding.derive(self.seed, seeding.TRANSFORM, epoch, index))
        return samples

    def _with_provenance(self, sample: Any, code: int) -> Any:
        origin = provenance.of_real(code) if code >= 0 else provenance.of_synthetic(self.source, ~code)
        return provenance.attach(sample, self.layout.container, origin)
