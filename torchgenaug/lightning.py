"""`SetEpoch`: Lightning tells a mix the epoch, and keeps where it stands in its checkpoints.

Lightning calls ``set_epoch`` of samplers only, and asks a loader for its first batches before it says which epoch that
is: in a run that goes on from a checkpoint, workers would make them of epoch 0. So the state of the mix comes back with
that of the callback, which Lightning restores before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchgenaug.errors import ConfigurationError, MissingExtraError
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.mixing.loader import SyntheticMixLoader
from torchgenaug.mixing.loader.wrapped import WrappedLoader
from torchgenaug.trust.leaks.validation import validation_only

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError as error:
        raise MissingExtraError("`torchgenaug.lightning` needs Lightning: `pip install lightning`.") from error


class SetEpoch(Callback):  # type: ignore[misc]
    """Says which epoch it is before each training epoch, and resumes where a checkpoint was.

    After the end of an epoch the run goes on exactly. In the middle of one, it does with a `SyntheticMixLoader`, and
    with a `SyntheticMixDataset` in a `torchdata.stateful_dataloader.StatefulDataLoader`; Lightning begins any other
    loader anew, whatever its data set is.

    Args:
        loader: the `SyntheticMixLoader`, or the DataLoader over a `SyntheticMixDataset`, that is trained on (its
            samplers are told the epoch, too); or the data set alone.

    Raises:
        ConfigurationError: none of these.
        MissingExtraError: when imported without Lightning.

    Example:
        >>> import numpy as np
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> from torchgenaug import SyntheticSequence
        >>> from torchgenaug.testing import AnalyticSynthesizer, InMemorySource
        >>> source = InMemorySource(SyntheticSequence(AnalyticSynthesizer()), 4)
        >>> real = TensorDataset(source.read(np.arange(4))["image"])
        >>> loader = DataLoader(SyntheticMixDataset(real, source, fields=["image"]), batch_size=2)
        >>> trainer = Trainer(max_epochs=2, callbacks=[SetEpoch(loader)])  # doctest: +SKIP
        >>> trainer.fit(model, loader)  # doctest: +SKIP
    """

    def __init__(self, loader: Any) -> None:
        self.mix: SyntheticMixDataset | SyntheticMixLoader
        if isinstance(loader, SyntheticMixDataset | SyntheticMixLoader):
            self.mix, self._set_epoch = loader, loader.set_epoch
        elif isinstance(getattr(loader, "dataset", None), SyntheticMixDataset):
            self.mix, self._set_epoch = loader.dataset, WrappedLoader(loader).set_epoch
        else:
            raise ConfigurationError(
                "`loader` must be a SyntheticMixLoader, or a DataLoader over a SyntheticMixDataset, got "
                f"{type(loader).__name__}. Give the mix itself where it is wrapped: SetEpoch(mixed)."
            )
        self._next = self.mix.epoch

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Sets the epoch. Not called in the epoch that a checkpoint goes on with: there `load_state_dict` does."""
        self._next = trainer.current_epoch
        self._set_epoch(self._next)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuses validation on synthetic samples.

        Raises:
            ConfigurationError: a mix or a synthetic source in a validation slot.
        """
        validation_only(trainer.val_dataloaders)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuses a test on synthetic samples, as `on_validation_start` does."""
        validation_only(trainer.test_dataloaders)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Remembers, for checkpoints, that the epoch is over."""
        self._next = trainer.current_epoch + 1

    def state_dict(self) -> dict[str, Any]:
        """The state of the mix, and the epoch to go on with."""
        return {"mix": self.mix.state_dict(), "epoch": self._next}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores both.

        Raises:
            StateMismatchError: the checkpoint is of another mix; every difference is listed.
        """
        self._next = state_dict["epoch"]
        self.mix.load_state_dict(state_dict["mix"])
        self._set_epoch(self._next)
