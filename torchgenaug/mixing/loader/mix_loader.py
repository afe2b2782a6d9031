"""`SyntheticMixLoader`: synthetic samples mixed into the batches of a loader that exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, TypeAlias

import torch
from torch import Tensor

from torchgenaug.contracts import SyntheticSource
from torchgenaug.devices import has_streams
from torchgenaug.mixing.loader.batch_memory import BatchMemory
from torchgenaug.mixing.loader.batch_transforms import BatchTransform, BatchTransforms
from torchgenaug.mixing.loader.batches import BatchLayout
from torchgenaug.mixing.loader.kept_rows import Read, part_of
from torchgenaug.mixing.loader.mixer import BatchMixer
from torchgenaug.mixing.loader.moving_source import MovingSource
from torchgenaug.mixing.loader.transfer import copied_to
from torchgenaug.mixing.loader.waste import WasteMeter
from torchgenaug.mixing.loader.wrapped import WrappedLoader
from torchgenaug.mixing.saved_state import check_state, shared_settings
from torchgenaug.plan.arguments import Mode, Ratio, ratio_state
from torchgenaug.plan.batch_plan import BatchPlan
from torchgenaug.plan.ranks import group_rank

Ticket: TypeAlias = tuple[Any, BatchMixer, dict[str, Any] | None, Read | None]
"""A batch, what mixes it, the loader's state after it where it runs ahead of the loop, and what was read of it."""


class SyntheticMixLoader:
    """Mixes synthetic samples into every batch of a loader; iterate it instead.

    Batches keep their structure: tensors, tuples, lists, NamedTuples, dicts, and the nested dicts of
    `torchio.SubjectsLoader`; MONAI's `MetaTensor` keeps its metadata (synthetic rows: those of the first row, but no
    file name). First come the real rows that are kept, in their order, then the synthetic ones (`is_synthetic`). Of B
    real samples, ``mode="replace"`` replaces ratio · B, chosen pseudo-randomly for each (seed, epoch, batch);
    ``"extend"`` adds ratio / (1 - ratio) · B. Every batch, and every run of batches, is less than one sample from that.
    Which samples of the source are read runs on through the epochs: all of them are used equally often (±1), within an
    epoch always, and over epochs if the loader knows its length and its batch size.

    Synthetic samples are read in whole batches where the loop runs: no worker and no transport between processes. Real
    samples that are replaced are not read if `loader` is a plain `DataLoader` of a map-style data set with a batch size
    and without a `collate_fn`: one with its settings and samplers is iterated in its place. Else they are thrown away.
    Under `torch.distributed` each rank draws others. A batch is a function of (seed, epoch, batch number, rank, the
    loader's batches).

    Each pass is an epoch: 0, 1, …; `set_epoch` says which one comes next. It also moves a pool, and tells the loader,
    its sampler and its data set, as far as they have ``set_epoch``. A pool with ``refreshes_per_epoch=P`` moves within
    the pass, too: of N batches, batch b reads part ``b·P // N`` of the epoch.

    With accelerate, prepare the loader that is wrapped: ``SyntheticMixLoader(accelerator.prepare(loader), pool)``;
    `Accelerator.prepare` returns a mix as it is.

    Args:
        loader: a `DataLoader`, or any iterable of batches that can be iterated more than once.
        synthetic: `SyntheticPool`, `ShardSource` or another `torchgenaug.contracts.SyntheticSource`.
        ratio: synthetic fraction of every batch, [0, 1] to replace, [0, 1) to extend; or a function epoch → fraction.
        mode: ``"replace"`` keeps the batch size, ``"extend"`` keeps the real samples.
        seed: base seed of the mix and of the transforms, in [0, 2^63).
        fields: names of the positions of a tuple or list batch, such as ``("image", "label")``; for dicts, which fields
            to hand out.
        device: where batches are handed out; None: where the loader left the real ones. To a CUDA device real batches
            are copied one ahead, from pinned memory.
        transform: function batch → batch for whole batches, after the other two; sees random generators that are seeded
            by (seed, epoch, batch number), as do the others.
        real_transform: for the real rows that are kept, as a batch of their own.
        synthetic_transform: for the synthetic rows.
        provenance: adds under the key ``"provenance"`` (tuples and lists: as one more position) a dict of
            ``is_synthetic`` (B,) bool, ``id``, ``parent`` and ``member`` (of an ensemble) (B,) int64, -1 for real
            samples, ``seed`` and ``fingerprint``, lists of B hexadecimal strings, "" for real samples.

    Raises:
        ConfigurationError: an argument outside its domain.
        EmptyDatasetError: samples of an empty source are needed.
        FieldMismatchError: at the first batch, when synthetic samples do not fit; all differences are listed.

    Warns:
        IntensityMismatchWarning: real and synthetic images differ grossly in brightness.
        UserWarning: the loop spends much of its time on real samples that are thrown away.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from torchgenaug import SyntheticSequence
        >>> from torchgenaug.testing import AnalyticSynthesizer, InMemorySource
        >>> source = InMemorySource(SyntheticSequence(AnalyticSynthesizer()), 16)
        >>> loader = DataLoader([{"image": torch.rand(1, 32, 32)}] * 8, batch_size=4)
        >>> for batch in SyntheticMixLoader(loader, source, ratio=0.5, mode="extend", fields=["image"]):
        ...     print(batch["image"].shape)
        torch.Size([8, 1, 32, 32])
        torch.Size([8, 1, 32, 32])
    """

    def __init__(
        self,
        loader: Any,
        synthetic: SyntheticSource,
        ratio: Ratio = 0.25,
        *,
        mode: Mode = "replace",
        seed: int = 0,
        fields: Sequence[str] | None = None,
        device: torch.device | str | None = None,
        transform: BatchTransform | None = None,
        real_transform: BatchTransform | None = None,
        synthetic_transform: BatchTransform | None = None,
        provenance: bool = False,
    ) -> None:
        self._wrapped = WrappedLoader(loader, replaces=mode == "replace")
        self._moving = MovingSource(synthetic, self._wrapped)
        self.source, self._fields, self._provenance = synthetic, fields, provenance
        self.device = None if device is None else torch.empty(0, device=device).device  # "cuda" gets its number
        self.plan = BatchPlan(
            len(synthetic),
            ratio,
            mode=mode,
            seed=seed,
            epoch_size=self._wrapped.epoch_size,
            per_rank=self._moving.is_per_rank,
        )
        self._transforms = BatchTransforms(self.plan.seed, real_transform, synthetic_transform, transform)
        self._mixer: BatchMixer | None = None
        self._probed = False
        self._waste = WasteMeter()
        # A pool that is at another epoch already is followed: its samples are what the mix will read.
        self._epoch, self._batch, self._seen = max(0, self._moving.epoch or 0), 0, 0
        if self._epoch:
            self._wrapped.set_epoch(self._epoch)
        self._ended = self._begun = False
        self._pass = 0  # number of the latest pass, or of the one that is to come
        self._restored: tuple[int, int, int] | None = None
        self._ahead_state: dict[str, Any] | None = None
        self._latest = (0, 0)

    def __len__(self) -> int:
        return len(self._wrapped.loader)

    @property
    def loader(self) -> Any:
        """The loader that is wrapped."""
        return self._wrapped.loader

    @property
    def batch_size(self) -> int | None:
        """Real samples that arrive in a full batch; with ``mode="extend"`` batches are larger than that."""
        return self._wrapped.batch_size

    @property
    def dataset(self) -> Any:
        """The data set of the loader that is wrapped."""
        return self.loader.dataset

    @property
    def sampler(self) -> Any:
        """The sampler of the loader that is wrapped."""
        return self.loader.sampler

    @property
    def batch_sampler(self) -> Any:
        """The batch sampler of the loader that is wrapped."""
        return self.loader.batch_sampler

    @property
    def epoch(self) -> int:
        """The epoch of the pass that is under way, or of the next one where `set_epoch` has just said so."""
        return self._epoch

    @property
    def is_synthetic(self) -> Tensor:
        """Which rows of the batch handed out last are synthetic: (B,) bool, on the CPU; empty before the first one."""
        real, synthetic = self._latest
        return torch.arange(real + synthetic) >= real

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch the next pass is. A pool makes its samples ready meanwhile.

        After `load_state_dict`, the epoch of the state goes on where it was; any other one begins at its first batch.
        An iterator that is under way goes on with its own epoch, where the source has no epochs.
        """
        self.plan.share(epoch)
        batch, seen = 0, 0
        if self._restored is not None and self._restored[0] == epoch:
            batch, seen = self._restored[1:]
        self._moving.move(epoch, batch)
        self._wrapped.set_epoch(epoch)
        self._epoch, self._batch, self._seen = epoch, batch, seen
        self._begun = self._ended = False
        self._pass += 1

    def __iter__(self) -> Iterator[Any]:
        rank, world_size = group_rank()
        if self._begun:
            self.set_epoch(self._epoch + 1)
        self._begun, self._ended = True, False
        self._pass += 1
        this_pass = self._pass
        restored, self._restored = self._restored, None
        if restored is not None and restored[0] != self._epoch:
            self._wrapped.give_up(restored[1], self._epoch)
        epoch, batch, seen = self._epoch, self._batch, self._seen
        plan = self.plan.epoch(epoch, rank=rank, world_size=world_size)
        self._moving.begin(epoch, batch)
        self._wrapped.begin(plan, batch, seen)
        memory = BatchMemory()
        arrivals = copied_to(self.device, map(self._opened, self._wrapped.batches(batch)))
        replaces, since = self.plan.mode == "replace", perf_counter()
        while True:
            requested = perf_counter()
            if (arrival := next(arrivals, None)) is None:
                break
            came = perf_counter()
            (raw, mixer, state, read), tensors = arrival
            part = part_of(plan, batch, seen, tensors[0].shape[0], read, replaces=replaces)
            if part.dropped:
                self._waste.add(came - requested, came - since, part.dropped)
            since = came
            if part.draws:
                self._moving.follow(epoch, batch)
            if plan.share and not self._probed:
                mixer.probe(raw, tensors, (epoch, rank, batch))
                self._probed = True
            result = [mixer.mix(raw, tensors, part.rows, plan.positions(part.draws), (epoch, rank, batch), memory)]
            del arrival, raw, tensors  # its memory can hold the next batch, while it is in the cache
            self._latest = (part.kept, len(part.draws))
            batch, seen = batch + 1, seen + part.size
            if self._pass == this_pass:  # else `set_epoch` or another iterator came meanwhile: the state is theirs
                self._batch, self._seen, self._ahead_state = batch, seen, state
            yield result.pop()
        if self._pass == this_pass:
            self._ended, self._ahead_state = True, None

    def state_dict(self) -> dict[str, Any]:
        """Where the mix stands, what decides its batches, and the state of the loader.

        A loader without a state of its own is begun once more, with its generators, or the global ones, as they were
        when the pass began. Later passes are those of an unbroken run if the order is a function of the epoch, its
        sampler has a generator, or the trainer puts the global generators back; what a data set draws from those in
        this process is not repeated.

        Raises:
            ConfigurationError: in the middle of a pass over a loader whose order cannot be repeated.
        """
        under_way = self._begun and not self._ended
        return {
            **self._settings(self._epoch),
            "epoch": self._epoch,
            "batch": self._batch,
            "seen": self._seen,
            "ended": self._ended,
            **(self._ahead_state or self._wrapped.state(under_way=under_way)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to where a saved state was taken: the next pass hands out the rest of that epoch.

        Raises:
            StateMismatchError: the state belongs to another mix; every difference is listed.
            ConfigurationError: the order of the loader cannot be repeated.
        """
        remedy = "Build them as they were, or start a new run."
        check_state(
            state, self._settings, ("epoch", "batch", "seen", "ended"), "the same mix of the same loader", remedy
        )
        epoch, batch, ended = int(state["epoch"]), int(state["batch"]), bool(state["ended"])
        self._wrapped.load(state, 0 if ended else batch)
        self._restored = None if ended else (epoch, batch, int(state["seen"]))
        self._ahead_state = None
        self.set_epoch(epoch)
        self._begun = self._ended = ended

    def _settings(self, epoch: int) -> dict[str, Any]:
        """What decides the batches until the end of `epoch`."""
        return {
            **shared_settings(self.plan, self.source),
            "ratio": ratio_state(self.plan.ratio, epoch, self.plan.sum_before(epoch + 1)),
            "refreshes_per_epoch": self._moving.parts,
            "per_rank": self._moving.is_per_rank,
            "batch_size": self._wrapped.batch_size,
            "num_batches": self._wrapped.num_batches,
            "epoch_size": self.plan.epoch_size,
            "world_size": group_rank()[1],
            "stateful_loader": self._wrapped.is_stateful,
            "order": self._wrapped.order,
        }

    def _opened(self, arrival: tuple[Any, Read | None]) -> tuple[Ticket, list[Tensor]]:
        batch, read = arrival
        if self._mixer is None:
            layout = BatchLayout.of(batch, self._fields)
            self._mixer = BatchMixer(layout, self.source, self._transforms, provenance=self._provenance)
        runs_ahead = self.device is not None and has_streams(self.device)
        state = self._wrapped.state(under_way=True) if runs_ahead and self._wrapped.is_stateful else None
        return (batch, self._mixer, state, read), self._mixer.layout.tensors(batch)

    def __repr__(self) -> str:
        what = f"{self.loader!r}, {self.source!r}, {self.plan.ratio!r}, mode={self.plan.mode!r}"
        return f"SyntheticMixLoader({what}, epoch {self.epoch})"
