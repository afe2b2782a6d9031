"""`SyntheticMixDataset`: a real data set with synthetic samples mixed in, in the real data set's own sample type."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from torchgenaug import provenance, seeding
from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import (
    ConfigurationError,
    EmptyDatasetError,
    FieldMismatchError,
    RepeatedEpochWarning,
    SampleIndexError,
    StateMismatchError,
)
from torchgenaug.intensity import warn_if_intensities_differ
from torchgenaug.map_source import MapSource, check_map_style, whole_labels
from torchgenaug.plan import ClassMembers, Counts, MixPlan, Mode, Ratio
from torchgenaug.samples import SampleLayout
from torchgenaug.transforms import SeededTransform
from torchgenaug.types import FieldKind

_JUST_SET = -1
_PASSES_BEFORE_WARNING = 3
_PROBED = 4  # samples of either kind that are looked at when the mix is built


class SyntheticMixDataset(Dataset[Any]):
    """Mixes synthetic samples into a real, map-style data set at an exact ratio; wrap it and train as before.

    Every sample is a pure function of (seed, epoch, index): the same for any number of workers, any start method, batch
    size, sampler and rank layout, its random transforms included. With ``ratio=0`` and no transform it hands out the
    very objects of `real`. Safe in forked, spawned and persistent workers; picklable if `real`, `synthetic` and the
    transforms are.

    Call `set_epoch` before each epoch (accelerate does), as with `DistributedSampler`.

    Args:
        real: map-style data set of tensors, tuples, lists, NamedTuples, dicts or `torchio.Subject`.
        synthetic: `SyntheticPool`, `ShardSource`, another `SyntheticSource`, or a map-style data set whose samples look
            like the real ones.
        ratio: synthetic fraction of an epoch, or a function epoch → fraction (a named function, so that it pickles).
        mode: ``"replace"`` keeps the length and replaces ``round(ratio · len(real))`` real samples, others each epoch,
            each real sample equally often (±1); ``"extend"`` keeps all of them and adds synthetic ones until the
            fraction holds.
        count: synthetic samples per epoch, as an absolute number, instead of `ratio`.
        seed: base seed of the mix and of the transforms, in [0, 2^63).
        fields: names of the positions of a tuple or list sample, such as ``("image", "label")``; for dicts and
            Subjects, which fields to hand out (of real and synthetic samples alike).
        match: name of the class field: a replaced sample is replaced by one of its own class, so that the class balance
            stays. Reads `real` once for its labels; a mapping ``{name: labels}`` saves that.
        transform: applied to every sample: a TorchIO transform or a function sample → sample.
        real_transform: applied to real samples only, before `transform`.
        synthetic_transform: applied to synthetic samples only, before `transform`.
        provenance: adds to each sample where it comes from: ``is_synthetic``, ``index`` (in `real`, or -1), ``id``,
            ``seed`` (hexadecimal) and ``parent`` (of a synthetic sample, or -1 and ""), and the sequence's
            ``fingerprint``.

    Raises:
        EmptyDatasetError: nothing in `real`, or nothing in `synthetic` where something is asked of it.
        ConfigurationError: an argument outside its domain; a tuple sample without `fields`.
        FieldMismatchError: synthetic samples do not fit the real ones; all differences are listed.

    Warns:
        IntensityMismatchWarning: real and synthetic images differ grossly in brightness.
        RepeatedEpochWarning: the same epoch is read again and again, because `set_epoch` was forgotten.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> real = TensorDataset(torch.rand(8, 1, 32, 32))
        >>> synthetic = TensorDataset(torch.rand(3, 1, 32, 32))
        >>> mixed = SyntheticMixDataset(real, synthetic, ratio=0.25, fields=("image",))
        >>> len(mixed), mixed.counts()
        (8, Counts(real=6, synthetic=2))
    """

    def __init__(
        self,
        real: Any,
        synthetic: SyntheticSource | Dataset[Any],
        ratio: Ratio = 0.25,
        *,
        mode: Mode = "replace",
        count: int | None = None,
        seed: int = 0,
        fields: Sequence[str] | None = None,
        match: str | Mapping[str, Sequence[int]] | None = None,
        transform: Callable[[Any], Any] | None = None,
        real_transform: Callable[[Any], Any] | None = None,
        synthetic_transform: Callable[[Any], Any] | None = None,
        provenance: bool = False,
    ) -> None:
        check_map_style(real, "real")
        check_map_style(synthetic, "synthetic")
        if isinstance(real, SyntheticMixDataset):
            raise ConfigurationError(
                "`real` must hold real samples, got a SyntheticMixDataset. Its synthetic samples would be called real. "
                "Mix once, with CombinedSource([source, ...], weights=[...]) for several synthetic sources."
            )
        if len(real) == 0:
            raise EmptyDatasetError("`real` is empty. There is nothing to mix into; check its path or split.")
        self.real, self.provenance = real, provenance
        self.layout = SampleLayout.of(real[0], fields)
        if provenance and "provenance" in self.layout.names:
            raise ConfigurationError(
                "`provenance` would overwrite the field 'provenance' that the real samples have. "
                "Rename it in the data set."
            )
        if provenance and self.layout.container == "namedtuple":
            raise ConfigurationError(
                "`provenance` cannot be added to a NamedTuple, whose fields are fixed. "
                "Let the real data set return a dict."
            )
        self.source: SyntheticSource | MapSource
        transformed = real_transform is not None or synthetic_transform is not None
        self.source = (
            synthetic
            if isinstance(synthetic, SyntheticSource)
            else MapSource(synthetic, self.layout, transformed=transformed)
        )
        refreshes = getattr(self.source, "refreshes_per_epoch", 1)
        if refreshes > 1:
            raise ConfigurationError(
                f"`synthetic` must hold one window of samples per epoch, got refreshes_per_epoch={refreshes}. A sampler asks for the samples of an epoch in any order, and "
                "workers ask ahead of the training loop, so all its windows would be needed at once. Use "
                "SyntheticMixLoader(loader, pool), which knows the order; or refreshes_per_epoch=1 and shorter epochs: "
                "RandomSampler(mixed, num_samples=len(mixed) // 4), with a set_epoch for each."
            )
        kinds: Mapping[str, FieldKind]
        if isinstance(self.source, MapSource):
            kinds = self.source.kinds()
        else:
            kinds = {name: spec.kind for name, spec in self.source.fields.items()}
            if not transformed:
                self.layout.check(self.source.fields)

        def seeded(transform: Callable[[Any], Any] | None) -> SeededTransform | None:
            return None if transform is None else SeededTransform(transform, self.layout, kinds)

        self._transforms = (seeded(real_transform), seeded(synthetic_transform), seeded(transform))
        self._match: str | None = None
        labels: npt.NDArray[np.int64] | None = None
        if match is not None:
            self._match, labels = self._real_labels(match)
        self.plan = MixPlan(len(real), len(self.source), ratio, mode=mode, count=count, seed=seed, labels=labels)
        self._members: tuple[int, ClassMembers] | None = None
        # The epoch, and how many samples were read since it was set: in shared memory, for all workers.
        self._epoch = torch.zeros(2, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        # A pool that is at another epoch already is followed: its samples are what the mix will read.
        self._epoch[0] = getattr(self.source, "epoch", 0)
        if self.plan.num_drawn(0) or (callable(ratio) and len(self.source)):
            self._probe(kinds)

    def __len__(self) -> int:
        return self.plan.counts(self.epoch).total

    @property
    def epoch(self) -> int:
        """The current epoch; kept in shared memory, so that persistent workers see it change."""
        return int(self._epoch[0])

    def set_epoch(self, epoch: int) -> None:
        """Goes to an epoch (and takes a pool along): other samples are replaced, and all transforms are drawn anew."""
        self.plan.num_drawn(epoch)
        for dataset in (self.real, self.source):
            move = getattr(dataset, "set_epoch", None)
            if callable(move):
                move(epoch)
        self._epoch[0], self._epoch[1] = epoch, _JUST_SET
        if self.plan.num_drawn(epoch):
            self._current_members(epoch)  # once, here, rather than in every worker

    def counts(self, epoch: int | None = None) -> Counts:
        """The exact number of real and synthetic samples of an epoch (default: the current one)."""
        return self.plan.counts(self.epoch if epoch is None else epoch)

    def is_synthetic(self, indices: npt.ArrayLike | None = None) -> npt.NDArray[np.bool_]:
        """Which indices of the current epoch are synthetic: (n,) bool; all of them by default."""
        return self.plan.is_synthetic(np.arange(len(self)) if indices is None else indices, self.epoch)

    def __getitem__(self, index: int) -> Any:
        size = len(self)
        if not -size <= index < size:
            raise SampleIndexError(f"`index` must be in [{-size}, {size}), got {index}.")
        return self.__getitems__([index % size])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """A batch of samples; this is what `DataLoader` calls."""
        epoch, num_read = self._epoch.tolist()
        self._epoch[1] = (0 if num_read == _JUST_SET else num_read) + len(indices)
        draws = self.plan.counts(epoch).synthetic > 0
        if not draws and not self.provenance and not any(self._transforms):
            return self._real_samples(list(indices))
        if num_read > _PASSES_BEFORE_WARNING * self.plan.counts(epoch).total:
            self._warn_of_repetition(epoch)
        if draws and getattr(self.source, "epoch", epoch) != epoch:
            raise StateMismatchError(
                f"`synthetic` must be at the epoch of the mix, {epoch}, got {getattr(self.source, 'epoch', None)}. Its "
                "samples are not those of this epoch. Call set_epoch on this mix; and give each mix a pool of its own."
            )
        codes = self.plan.codes(indices, epoch, self._current_members(epoch)).tolist()
        made = iter(self._synthetic_samples([~code for code in codes if code < 0]))
        taken = iter(self._real_samples([code for code in codes if code >= 0]))
        samples = [next(made) if code < 0 else next(taken) for code in codes]
        if any(self._transforms):
            samples = self._transformed(samples, codes, np.asarray(indices, np.int64), epoch)
        if self.provenance:
            samples = [self._with_provenance(sample, code) for sample, code in zip(samples, codes, strict=True)]
        return samples

    def state_dict(self) -> dict[str, Any]:
        """What decides the samples, and the epoch; JSON-ready."""
        ratio = self.plan.ratio
        return {
            "epoch": self.epoch,
            "seed": self.plan.seed,
            "mode": self.plan.mode,
            "ratio": getattr(ratio, "__qualname__", type(ratio).__name__) if callable(ratio) else float(ratio),
            "count": self.plan.count,
            "num_real": self.plan.num_real,
            "num_synthetic": self.plan.num_synthetic,
            "match": self._match,
            "fingerprint": getattr(self.source, "fingerprint", None),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to the epoch of a saved state, unless `set_epoch` has named another one of which nothing was read yet.

        `torchdata.stateful_dataloader.StatefulDataLoader` calls it when an epoch begins, in its workers: a state that
        was saved when an epoch had ended must not undo what the training loop said about the next one. Over a pool,
        call `set_epoch` before the first batch, as in any epoch: workers cannot move a pool.

        Raises:
            StateMismatchError: the state belongs to another mix; every difference is listed.
        """
        mine = self.state_dict()
        differences = [
            f"{name}: saved {state.get(name)!r}, now {mine[name]!r}"
            for name in mine
            if name != "epoch" and state.get(name) != mine[name]
        ]
        if differences or "epoch" not in state:
            raise StateMismatchError(
                "The saved state must come from the same mix. Differences:\n  - "
                + "\n  - ".join(differences or ["no epoch"])
                + "\nBuild the data set as it was, or start a new run."
            )
        epoch, num_read = self._epoch.tolist()
        if state["epoch"] != epoch and num_read != _JUST_SET:
            self.set_epoch(int(state["epoch"]))

    def _warn_of_repetition(self, epoch: int) -> None:
        self._epoch[1] = -(1 << 62)  # once is enough
        warnings.warn(
            f"Epoch {epoch} was read more than {_PASSES_BEFORE_WARNING} times. Each pass replaces the same samples and "
            "draws the same random transforms. Call dataset.set_epoch(epoch) at the start of every epoch.",
            RepeatedEpochWarning,
            stacklevel=3,
        )

    def _real_samples(self, positions: list[int]) -> list[Any]:
        batched = getattr(self.real, "__getitems__", None)
        samples: list[Any] = []
        if callable(batched):
            samples += batched(positions)
            if len(samples) != len(positions):
                raise FieldMismatchError(
                    f"`real.__getitems__` must return one sample per index, got {len(samples)} for {len(positions)}."
                )
        else:
            try:
                for position in positions:
                    samples.append(self.real[position])
            except Exception as error:
                error.add_note(f"while reading real sample {positions[len(samples)]}")
                raise
        return [self.layout.restrict(sample) for sample in samples] if self.layout.restricted else samples

    def _synthetic_samples(self, positions: list[int]) -> list[Any]:
        if not positions:
            return []
        if isinstance(self.source, MapSource):
            return self.source.samples(positions)
        return self.layout.samples(self.source.read(np.array(positions)), len(positions))

    def _transformed(self, samples: list[Any], codes: list[int], index: npt.NDArray[np.int64], epoch: int) -> list[Any]:
        real, synthetic, both = self._transforms
        for transform, wanted, purpose in (
            (real, False, seeding.REAL_TRANSFORM),
            (synthetic, True, seeding.SYNTHETIC_TRANSFORM),
        ):
            rows = [row for row, code in enumerate(codes) if (code < 0) == wanted]
            if transform is not None and rows:
                seeds = seeding.derive(self.plan.seed, purpose, epoch, index[rows])
                for row, sample in zip(rows, transform([samples[row] for row in rows], seeds), strict=True):
                    samples[row] = sample
        if both is not None:
            samples = both(samples, seeding.derive(self.plan.seed, seeding.TRANSFORM, epoch, index))
        return samples

    def _with_provenance(self, sample: Any, code: int) -> Any:
        origin = provenance.of_real(code) if code >= 0 else provenance.of_synthetic(self.source, ~code)
        return provenance.attach(sample, self.layout.container, origin)

    def _real_labels(self, match: str | Mapping[str, Sequence[int]]) -> tuple[str, npt.NDArray[np.int64]]:
        if isinstance(match, Mapping):
            name, labels = next(iter(match.items()))
            _check_named(name, self.layout)
            return name, whole_labels(labels, name)
        _check_named(match, self.layout)
        from tqdm import tqdm

        every = tqdm(range(len(self.real)), desc=f"reading {match!r} of the real samples", delay=3, leave=False)
        return match, whole_labels((self.layout.split(self.real[k])[match] for k in every), match)

    def _current_members(self, epoch: int) -> ClassMembers | None:
        """The source's positions by class: of this epoch, where the source changes with it."""
        if self._match is None:
            return None
        key = epoch if hasattr(self.source, "set_epoch") else -1
        if self._members is None or self._members[0] != key:
            if isinstance(self.source, MapSource):
                labels: npt.ArrayLike = self.source.labels(self._match)
            else:
                labels = self.source.column(self._match).numpy()
            self._members = (key, self.plan.group(labels))
        return self._members[1]

    def _probe(self, kinds: Mapping[str, FieldKind]) -> None:
        """Looks at a few samples of either kind: transformed, they must fit each other, and should look alike."""
        self._current_members(self.epoch)
        real_at = np.unique(np.linspace(0, len(self.real) - 1, _PROBED).astype(np.int64))
        synthetic_at = np.arange(min(_PROBED, len(self.source)))
        pairs = []
        for positions, synthetic in ((real_at, False), (synthetic_at, True)):
            drawn = (self._synthetic_samples if synthetic else self._real_samples)(positions.tolist())
            side = self._transforms[1 if synthetic else 0]
            seeds = seeding.derive(self.plan.seed, seeding.PLAN, 0, positions)
            pairs.append(drawn if side is None else side(drawn, seeds))
        real, synthetic_samples = pairs
        fields = self.layout.names
        layout = SampleLayout.of(real[0], fields)
        MapSource([synthetic_samples[0]], layout)
        for name in fields:
            if kinds.get(name) == "intensity":
                warn_if_intensities_differ(real, synthetic_samples, layout, name)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Plain pickle copies; the copy's workers must see its epoch change, too.
        self._epoch.share_memory_()

    def __repr__(self) -> str:
        return (
            f"SyntheticMixDataset({self.counts().real} real + {self.counts().synthetic} synthetic, epoch {self.epoch})"
        )


def _check_named(match: str, layout: SampleLayout) -> None:
    if match not in layout.names:
        raise ConfigurationError(f"`match` must name a field of the samples {layout.names}, got {match!r}.")
