"""`SyntheticMixDataset`: a real data set with synthetic samples mixed in, in the real data set's own sample type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import SampleIndexError
from torchgenaug.mixing.dataset.arguments import check_both_sets, check_one_window
from torchgenaug.mixing.dataset.epoch_clock import EpochClock, checked_epoch
from torchgenaug.mixing.dataset.labels import read_labels
from torchgenaug.mixing.dataset.loader_calls import accelerate_pass, restored_pass
from torchgenaug.mixing.dataset.map_source import MapSource, as_source
from torchgenaug.mixing.dataset.moving_parts import MovingParts, check_at_epoch, warn_of_repetition
from torchgenaug.mixing.dataset.sample_mixer import SampleMixer
from torchgenaug.mixing.dataset.shared_counts import SharedCounts
from torchgenaug.mixing.dataset.source_members import SourceMembers
from torchgenaug.mixing.saved_state import check_state, shared_settings
from torchgenaug.plan.amounts import Counts
from torchgenaug.plan.arguments import Mode, Ratio, checked_index, ratio_state
from torchgenaug.plan.class_matching import ClassMembers
from torchgenaug.plan.mix_plan import MixPlan
from torchgenaug.samples.layout import SampleLayout
from torchgenaug.samples.own_copy import is_in_memory
from torchgenaug.trust.leaks.check import check_mix

_PASSES_BEFORE_WARNING = 3


class SyntheticMixDataset(Dataset[Any]):
    """Mixes synthetic samples into a real, map-style data set at an exact ratio; wrap it and train as before.

    Every sample is a pure function of (seed, epoch, index): the same for any number of workers, any start method, batch
    size, sampler and rank layout, its random transforms included. With ``ratio=0`` and no transform it hands out the
    very objects of `real`. Safe in forked, spawned and persistent workers; picklable if `real`, `synthetic` and the
    transforms are.

    The epoch moves by itself: each pass of a `DataLoader`, with any sampler, is the next epoch, and where the sampler
    knows its epoch, as that of a run which goes on from a checkpoint, the mix follows it. An explicit `set_epoch`
    overrules that: the loop that calls it does so before each epoch, as with `DistributedSampler`. Read a mix with one
    loader at a time: two would share the epoch.

    Args:
        real: map-style data set of tensors, tuples, lists, NamedTuples, dicts or `torchio.Subject`; of single arrays or
            numbers; of lists of dicts, as MONAI's crops with ``num_samples`` are (a synthetic sample is then a list of
            as many). It is not read before a sample is needed, and then in the process that needs it: mistakes in the
            samples are found when the data set is built only where `real` is a list, a tuple or a `TensorDataset`.
        synthetic: `SyntheticPool`, `ShardSource`, another `SyntheticSource`, or a map-style data set whose samples look
            like the real ones.
        ratio: synthetic fraction of an epoch, by default 0.25; or a function epoch → fraction (a named function, so
            that it pickles).
        mode: ``"replace"`` keeps the length and replaces ``round(ratio · len(real))`` real samples, others each epoch,
            each real sample equally often (±1); ``"extend"`` keeps all of them and adds synthetic ones until the
            fraction holds.
        count: synthetic samples per epoch, as an absolute number, instead of `ratio`.
        seed: base seed of the mix and of the transforms, in [0, 2^63).
        fields: names of the positions of a tuple or list sample, such as ``("image", "label")``; for dicts and
            Subjects, which fields to hand out (of real and synthetic samples alike). A mapping, such as
            ``{"pixel_values": "image", "labels": "label"}``, gives for each real name the synthetic one.
        match: name of the class field: a replaced sample is replaced by one of its own class, so that the class balance
            stays. Reads `real` once for its labels; a mapping ``{name: labels}`` saves that.
        transform: applied to every sample: a TorchIO transform or a function sample → sample.
        real_transform: applied to real samples only, before `transform`.
        synthetic_transform: applied to synthetic samples only, before they are converted: it gets tensors under the
            names of the source (tuples: in the order of `fields`; Subjects: as images), may rename, add and drop
            fields, and return samples of a class of your own where the real ones are such.
        provenance: adds to each sample where it comes from: ``is_synthetic``, ``index`` (in `real`, or -1), ``id``,
            ``seed`` (hexadecimal), ``parent`` and ``member`` (of an ensemble) of a synthetic sample, or -1 and "", and
            the sequence's ``fingerprint``.
        held_out: the validation or test set, or a dict name → data set of several: refused if `real`, or what the
            generator was trained on, holds one of its samples, patients or images; see `torchgenaug.trust.check_leaks`.
            Reads all of them once, through copies of the data sets.

    Raises:
        EmptyDatasetError: nothing in `real`, or nothing in `synthetic` where the ratio is above 0.
        ConfigurationError: an argument outside its domain; a tuple sample without `fields`.
        FieldMismatchError: synthetic samples do not fit the real ones; all differences are listed.
        LeakError: `held_out` holds what training sees; every overlap is named.

    Warns:
        IntensityMismatchWarning: real and synthetic images differ grossly in brightness.
        RepeatedEpochWarning: the same epoch is read again and again: `set_epoch` was called once and then forgotten,
            indices are read by hand, or workers with a sampler of your own read a pool, which they cannot move.

    Example:
        >>> import torch
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
        ratio: Ratio | None = None,
        *,
        mode: Mode = "replace",
        count: int | None = None,
        seed: int = 0,
        fields: Sequence[str] | Mapping[str, str] | None = None,
        match: str | Mapping[str, Sequence[int]] | None = None,
        transform: Callable[[Any], Any] | None = None,
        real_transform: Callable[[Any], Any] | None = None,
        synthetic_transform: Callable[[Any], Any] | None = None,
        provenance: bool = False,
        held_out: Any = None,
    ) -> None:
        check_both_sets(real, synthetic, SyntheticMixDataset)
        self.provenance = provenance
        self.source = as_source(synthetic)
        check_one_window(self.source)
        if held_out is not None:
            check_mix(real, self.source, held_out)
        self._match = None if match is None else match if isinstance(match, str) else next(iter(match))
        labels = None if match is None else read_labels(real, fields, match)
        self.plan = MixPlan(len(real), len(self.source), ratio, mode=mode, count=count, seed=seed, labels=labels)
        if self.plan.amounts.decided is not None:
            self.plan.amounts.decided = SharedCounts()
        self._mixer = SampleMixer(
            real,
            self.source,
            fields,
            transforms=(real_transform, synthetic_transform, transform),
            seed=self.plan.seed,
            provenance=provenance,
        )
        self._members = None if self._match is None else SourceMembers(self.plan, self._match)
        # A pool that is at another epoch already is followed: its samples are what the mix will read.
        self._clock = EpochClock(max(0, getattr(self.source, "epoch", None) or 0))
        self._parts = MovingParts(self._mixer.data_sets, self.epoch)
        draws = bool(self.plan.num_drawn(0)) or (callable(ratio) and len(self.source) > 0)
        if draws:
            self._current_members(self.epoch)
        if (draws or self._mixer.changes_samples) and is_in_memory(real):
            # Mistakes are found now where nothing can change by looking: else when the first sample is read.
            only_here = isinstance(self.source, MapSource) and not is_in_memory(self.source.dataset)
            self._mixer.opened(draws=draws and not only_here)

    def __len__(self) -> int:
        epoch = self._clock.after_sampler()
        if epoch is not None:
            self._go_to(epoch)  # the current one, too: a pool without a background has to be filled before workers read
            if epoch != self.epoch:
                self._clock.move_with_sampler(epoch)
        return self.plan.counts(self.epoch).total

    @property
    def epoch(self) -> int:
        """The current epoch; kept in shared memory, so that persistent workers see it change."""
        return self._clock.epoch

    def set_epoch(self, epoch: int) -> None:
        """Goes to an epoch (and takes a pool along): other samples are replaced, and all transforms are drawn anew.

        Passes then read this epoch, again and again, until the next call, or until a sampler with an epoch of its own
        goes further.
        """
        move = self._clock.set
        if (is_begun := accelerate_pass()) is not None:
            epoch, move = self._clock.after_trainer(epoch, begun_ahead=is_begun), self._clock.move_with_trainer
        self._go_to(epoch)
        move(epoch)

    def counts(self, epoch: int | None = None) -> Counts:
        """The exact number of real and synthetic samples of an epoch (default: the current one)."""
        return self.plan.counts(self.epoch if epoch is None else epoch)

    def is_synthetic(self, indices: npt.ArrayLike | None = None) -> npt.NDArray[np.bool_]:
        """Which indices of the current epoch are synthetic: (n,) bool; all of them by default."""
        return self.plan.is_synthetic(np.arange(len(self)) if indices is None else indices, self.epoch)

    @property
    def real(self) -> Any:
        """The real data set, the object that was given."""
        # Not an attribute: MONAI's DataLoader walks over attributes to seed what it finds, each time that it finds it.
        return self._mixer.real

    @property
    def layout(self) -> SampleLayout:
        """How fields sit in the samples of `real`; looks at one of them, through a copy of the data set."""
        return self._mixer.opened(draws=False).raw

    def __getitem__(self, index: Any) -> Any:
        epoch, num_read = self._arrive(1)
        drawn, total, _ = self.plan.numbers(epoch)
        if not drawn and not self._mixer.changes_samples:
            return self._mixer.real_sample(index)
        index = checked_index(index)
        if not -total <= index < total:
            raise SampleIndexError(f"`index` must be in [{-total}, {total}), got {index}.")
        return self._samples([index % total], epoch, num_read)[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """A batch of samples; this is what `DataLoader` calls."""
        epoch, num_read = self._arrive(len(indices))
        if not self.plan.numbers(epoch)[0] and not self._mixer.changes_samples:
            return self._mixer.real_samples(list(indices))
        return self._samples(indices, epoch, num_read)

    def _arrive(self, count: int) -> tuple[int, int]:
        """The epoch to read `count` samples of, and how many were read of it before; a new pass is the next epoch."""
        epoch, num_read, begins_pass = self._clock.reads(count)
        if begins_pass and self._parts.can_move_here:
            self._go_to(epoch + 1)
            return self._clock.move_with_reader(count), 0
        if begins_pass and self.plan.numbers(epoch)[0]:
            self._clock.forget_reads()  # once is enough
            warn_of_repetition(epoch, "once", "A worker cannot move a pool to the next epoch")
        elif epoch != self._parts.epoch:
            self._parts.follow(epoch)
        return epoch, num_read

    def _samples(self, indices: Sequence[int], epoch: int, num_read: int) -> list[Any]:
        drawn, total, _ = self.plan.numbers(epoch)
        if num_read > _PASSES_BEFORE_WARNING * total:
            self._clock.forget_reads()
            reason = "It was set once and then not again, or samples are read by hand, so that no pass can be seen"
            warn_of_repetition(epoch, f"{_PASSES_BEFORE_WARNING} times", reason)
        if drawn:
            check_at_epoch(self.source, epoch)
        codes = self.plan.code_list(indices, epoch, self._current_members(epoch))
        return self._mixer.samples(codes, indices, epoch)

    def dry_iter(self) -> list[Any]:
        """A `torchio.Subject` for each index of the current epoch, its images not loaded: what `torchio.Queue` counts.

        A hollow one stands in for synthetic samples, unless each says how many patches it gives (``num_samples``).

        Raises:
            ConfigurationError: the samples are no Subjects.
        """
        members = self._current_members(self.epoch)
        return self._mixer.subjects(*self.plan.look_up(np.arange(len(self)), self.epoch, members), self.epoch)

    def state_dict(self) -> dict[str, Any]:
        """What decides the samples, and the epoch, JSON-ready; and the state of `real`, if it has a ``state_dict``."""
        state = {"epoch": self.epoch, **self._clock.ended(), **self._settings(self.epoch)}
        if self.plan.amounts.decided is not None:
            state["drawn"] = self.plan.amounts.decided.to_list()
        own = getattr(self.real, "state_dict", None)  # torchdata's protocol for data sets that know where they are
        return {**state, "real": own()} if callable(own) else state

    def _settings(self, epoch: int) -> dict[str, Any]:
        """What decides the samples until the end of `epoch`."""
        return {
            **shared_settings(self.plan, self.source),
            "ratio": ratio_state(self.plan.ratio, epoch, self.plan.offset(epoch + 1)),
            "count": self.plan.count,
            "num_real": self.plan.num_real,
            "match": self._match,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to the epoch of a saved state, unless `set_epoch` has named another one of which nothing was read yet.

        `torchdata.stateful_dataloader.StatefulDataLoader` calls it when an epoch begins, in its workers. A pool follows
        when its sampler asks for the length; with a sampler that does not, call `set_epoch` before the first batch.

        Raises:
            StateMismatchError: the state belongs to another mix; every difference is listed.

        Warns:
            UserWarning: the ratio is a function that gives other values than it gave in the saved run.
        """
        if self.plan.amounts.decided is not None and "drawn" in state:
            self.plan.restore(state["drawn"])
        remedy = "Build the data set as it was, or start a new run."
        check_state(state, self._settings, ("epoch",), "the same mix", remedy)
        if "real" in state and callable(getattr(self.real, "load_state_dict", None)):
            self.real.load_state_dict(state["real"])
        if not self._clock.was_just_set:
            was_over = restored_pass()
            epoch = int(state["epoch"]) + bool(state.get("finished") or was_over)
            if epoch != self.epoch:
                self._go_to(epoch, alone=not self._parts.can_move_here)
            self._clock.restore(epoch, in_pass=was_over is False)

    def _go_to(self, epoch: int, *, alone: bool = False) -> None:
        """Takes the data sets to an epoch; `alone`: those of this process, as the sampler takes a pool there later."""
        self.plan.decide(checked_epoch(epoch))
        (self._parts.follow if alone else self._parts.go_to)(epoch)
        if not alone and self.plan.num_drawn(epoch):
            self._current_members(epoch)  # once, here, rather than in every worker

    def _current_members(self, epoch: int) -> ClassMembers | None:
        """The source's positions by class: of this epoch, where the source changes with it."""
        return None if self._members is None else self._members.at(epoch, self.source, lambda: self.layout)

    def __repr__(self) -> str:
        counts = self.counts()
        return f"SyntheticMixDataset({counts.real} real + {counts.synthetic} synthetic, epoch {self.epoch})"
