"""`WrappedLoader`: what a mix must know of a user's loader: its length, its epochs, how to go on in the middle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import RandomSampler

from torchgenaug.errors import ConfigurationError, StateMismatchError
from torchgenaug.mixing.loader.kept_rows import KeptRows, Read
from torchgenaug.mixing.loader.order import LoaderOrder
from torchgenaug.plan.batch_plan import EpochPlan


class WrappedLoader:
    """A loader, left as it is.

    A loader with ``state_dict`` and ``load_state_dict`` (`torchdata.stateful_dataloader.StatefulDataLoader`) says
    itself where it stands. Any other one is begun anew and its first batches are thrown away; the random generators
    that its order is drawn from (see `LoaderOrder`) are put back for that.

    Args:
        loader: a `DataLoader`, or any iterable of batches that can be iterated more than once.
        replaces: rows of its batches are replaced; they are not read where that makes no difference.

    Raises:
        ConfigurationError: not an iterable, or an iterator, which has one pass only.
    """

    def __init__(self, loader: Any, *, replaces: bool = False) -> None:
        if not hasattr(loader, "__iter__") or isinstance(loader, Iterator):
            raise ConfigurationError(
                f"`loader` must be a DataLoader or another iterable of batches, got {type(loader).__name__}. An "
                "iterator has one pass only: give the object that iter() was called on."
            )
        self.loader = loader
        # The loaders of accelerate have the methods, too, but by default no state; batches are thrown away there, too.
        by_accelerate = hasattr(loader, "use_stateful_dataloader")
        self.is_stateful = hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict") and not by_accelerate
        self._kept = KeptRows(loader) if replaces and KeptRows.applies(loader) else None
        self._order = LoaderOrder(loader)
        self._began: list[Any] | None = None
        self._restored: Mapping[str, Any] | None = None

    @property
    def order(self) -> str:
        """What the order of the batches depends on."""
        return self._order.describe()

    @property
    def num_batches(self) -> int | None:
        """Batches of an epoch, None if the loader does not know."""
        try:
            return len(self.loader)
        except TypeError:
            return None

    @property
    def batch_size(self) -> int | None:
        """Samples of a full batch, None if the loader does not know."""
        size = getattr(self.loader, "batch_size", None)
        if size is None:
            size = getattr(getattr(self.loader, "batch_sampler", None), "batch_size", None)
        return size if isinstance(size, int) else None

    @property
    def epoch_size(self) -> int | None:
        """Samples of an epoch in this process, None if the loader does not know."""
        if self.num_batches is None or self.batch_size is None:
            return None
        most = self.num_batches * self.batch_size
        for part in ("sampler", "dataset"):  # an IterableDataset has no sampler with a length
            try:
                return min(most, len(getattr(self.loader, part)))
            except (AttributeError, TypeError):
                continue
        return most

    def set_epoch(self, epoch: int) -> None:
        """Tells the loader the epoch, or, where it has no ``set_epoch``, its samplers and its data set."""
        parts = [self.loader, *self._order.samplers(), getattr(self.loader, "dataset", None)]
        movable = {id(part): part for part in parts if callable(getattr(part, "set_epoch", None))}
        for part in [self.loader] if id(self.loader) in movable else movable.values():
            part.set_epoch(epoch)

    def batches(self, skipped: int = 0) -> Iterator[tuple[Any, Read | None]]:
        """A new pass, or, after `load`, the rest of the pass of which `skipped` batches were handed out.

        Each batch comes with what was read of it; None: all.

        Raises:
            StateMismatchError: the loader ends before that.
        """
        restored, self._restored = self._restored, None
        if not self.is_stateful:
            return self._begun_again(skipped, restored)
        if restored is not None:
            # torchdata draws the order of torch's own samplers once more, and skips: from where it was drawn first.
            self._order.set_states(restored["began"])
        self._began = self._order.states()
        batches: Iterator[Any] = iter(self.loader)
        if restored is not None:
            # torchdata 0.11 repeats the draws of its own samplers' order, but not those after it: with a generator of
            # the user's, the next epoch would be shuffled differently. A state from between two epochs draws its order
            # at once.
            is_finished = restored["loader"].get("_iterator_finished", False)
            draws_anew = any(type(part) is RandomSampler for part in self._order.samplers())
            if is_finished or not draws_anew:
                self._order.set_states(restored["generators"])
            if self._order.generators() and is_finished:
                batches = iter(self.loader)
        return ((batch, None) for batch in batches)

    def begin(self, plan: EpochPlan, batch: int, seen: int) -> None:
        """Says what the next pass mixes: its plan, and how many samples `seen` come before batch number `batch`."""
        if self._kept is not None:
            self._kept.begin(plan, batch, seen)

    def _new_pass(self) -> Iterator[tuple[Any, Read | None]]:
        if self._kept is not None:
            return iter(self._kept)
        batches = iter(self.loader)  # now: its samplers may draw their order here
        return ((batch, None) for batch in batches)

    def _begun_again(self, skipped: int, restored: Mapping[str, Any] | None) -> Iterator[tuple[Any, Read | None]]:
        saved = restored["generators"] if restored is not None else []
        self._order.set_states(saved)
        self._began = saved or self._order.states()
        if not skipped:
            return self._new_pass()
        with self._order.as_then(saved):
            batches = self._new_pass()
            for done in range(skipped):
                if next(batches, _END) is _END:
                    raise StateMismatchError(
                        f"The saved state must be of a loader with at least {skipped} batches, got one with {done}. "
                        "Build the loader as it was, or start a new run."
                    )
        return batches

    def give_up(self, skipped: int, epoch: int) -> None:
        """Ends, after `load`, the pass that was saved: the next one (`epoch`) then has the order of an unbroken run."""
        if self.is_stateful or self._order.generators():
            for _ in self.batches(skipped):
                pass
            self.set_epoch(epoch)

    def state(self, *, under_way: bool) -> dict[str, Any]:
        """Where the loader stands: its own state, or what its order is drawn from.

        Raises:
            ConfigurationError: in the middle of a pass, of an order that cannot be repeated.
        """
        if self._restored is not None:
            return {name: self._restored[name] for name in ("loader", "generators", "began") if name in self._restored}
        if under_way and not self.is_stateful:
            self._order.check()
        own = {"loader": self.loader.state_dict()} if self.is_stateful else {}
        now = self._order.states()  # afterwards: torchdata draws, if no pass has begun
        began = self._began if under_way and self._began is not None else now
        return {**own, "generators": now, "began": began} if own else {"generators": began}

    def load(self, state: Mapping[str, Any], skipped: int) -> None:
        """Prepares `batches` for the rest of a pass.

        Raises:
            ConfigurationError: an order that cannot be repeated.
        """
        if self.is_stateful:
            self.loader.load_state_dict(state["loader"])
        elif skipped:
            self._order.check()
        else:
            self._order.check_prepared()
        self._restored = state


_END = object()
