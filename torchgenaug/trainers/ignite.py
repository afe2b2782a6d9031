"""`SetEpoch` for MONAI's `SupervisedTrainer` and other engines of ignite."""

from __future__ import annotations

from typing import Any

from torchgenaug.errors import ConfigurationError, missing_extra
from torchgenaug.trainers.mixes import MixesOf

try:
    from ignite.engine import Events
except ImportError as error:
    raise missing_extra("`torchgenaug.trainers.ignite`", package="pytorch-ignite", extra="ignite") from error


class SetEpoch:
    """Sets the epoch of the mixes that an engine trains on, before each of its epochs.

    ignite counts epochs from 1; the mix is at epoch 0 in the first one. To go on in the middle of an epoch, train on a
    `SyntheticMixLoader` and put it into the dictionary of MONAI's `CheckpointSaver` and `CheckpointLoader`.

    Args:
        loader: the loader that is trained on; None: the ``data_loader`` of the engine, as MONAI's have it.
        close_pools: whether to close the pools of the mixes when the training ends.

    Example:
        >>> trainer = SupervisedTrainer(..., train_handlers=[SetEpoch()])  # doctest: +SKIP
    """

    def __init__(self, loader: Any = None, *, close_pools: bool = False) -> None:
        self._loader, self._close_pools = loader, close_pools

    def attach(self, engine: Any) -> None:
        """Adds the handlers to an engine; MONAI calls it.

        Raises:
            ConfigurationError: there is no mix in its loader.
        """
        mixes = MixesOf(getattr(engine, "data_loader", None) if self._loader is None else self._loader)
        if not mixes.mixes:
            raise ConfigurationError(
                "The engine must train on a mix, got none in its loader. Nothing has an epoch to set. Give the loader: "
                "SetEpoch(loader)."
            )
        engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: mixes.set_epoch(engine.state.epoch - 1))
        if self._close_pools:
            engine.add_event_handler(Events.COMPLETED, lambda _: mixes.close_pools())
            engine.add_event_handler(Events.EXCEPTION_RAISED, _close_and_raise(mixes))


class RealOnly:
    """Refuses a mix as the data of an evaluator; a handler, as `SetEpoch` is one.

    Example:
        >>> evaluator = SupervisedEvaluator(..., val_handlers=[RealOnly()])  # doctest: +SKIP
    """

    def attach(self, engine: Any) -> None:
        """Looks at the engine's loader.

        Raises:
            ConfigurationError: it holds synthetic samples.
        """
        MixesOf(engine.data_loader).refuse("validation")


def _close_and_raise(mixes: MixesOf) -> Any:
    def close(_: Any, error: BaseException) -> None:
        mixes.close_pools()
        raise error

    return close
