"""`SetEpoch`: sets the epoch of a mix in Lightning, and keeps where it stands in the checkpoints.

Lightning calls ``set_epoch`` of samplers only, and asks a loader for its first batches before it says which epoch that
is: in a run that goes on from a checkpoint, workers would make them of epoch 0. So the state of the mix comes back with
that of the callback, which Lightning restores before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchgenaug.errors import ConfigurationError, MissingExtraError
from torchgenaug.trainers.mixes import MixesOf

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError as error:
        raise MissingExtraError("`torchgenaug.lightning` needs Lightning: `pip install lightning`.") from error


class SetEpoch(Callback):  # type: ignore[misc]
    """Sets the epoch of the mixes before each training epoch, and resumes where a checkpoint was.

    After the end of an epoch the run goes on exactly. In the middle of one, it does with a `SyntheticMixLoader`, and
    with a `SyntheticMixDataset` in a `torchdata.stateful_dataloader.StatefulDataLoader`; Lightning begins any other
    loader anew, whatever its data set is.

    Mixes in the validation, test and prediction loaders are refused.

    Args:
        loader: the `SyntheticMixLoader`, or the DataLoader over a `SyntheticMixDataset`, that is trained on (the epoch
            of its samplers is set, too); or the data set alone. None: the mixes of the loader that ``trainer.fit``
            gets, or of the attributes of the DataModule (after its ``setup``) or of the LightningModule.
        close_pools: whether to close the pools of the mixes when ``trainer.fit`` ends. None: if they were found without
            `loader`.

    Raises:
        ConfigurationError: none of these; or, when the training begins, no mix was found.
        MissingExtraError: when imported without Lightning.

    Example:
        >>> trainer = Trainer(max_epochs=2, callbacks=[SetEpoch()])  # doctest: +SKIP
        >>> trainer.fit(model, datamodule=data)  # doctest: +SKIP
    """

    def __init__(self, loader: Any = None, *, close_pools: bool | None = None) -> None:
        self._close_pools = loader is None if close_pools is None else close_pools
        self._found = MixesOf(loader)
        if loader is not None and not self._found.mixes:
            raise ConfigurationError(
                "`loader` must be a SyntheticMixLoader, or a DataLoader over a SyntheticMixDataset, got "
                f"{type(loader).__name__}. Where the mix is inside another loader, pass the mix: SetEpoch(mixed)."
            )
        self._is_given = loader is not None
        self._next = self._found.mixes[0].epoch if self._is_given else 0

    @property
    def mix(self) -> Any:
        """The first mix."""
        return self._found.mixes[0]

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Looks for the mixes: before Lightning restores a checkpoint and asks loaders for their first batches."""
        if self._is_given or stage != "fit":
            return
        loader = getattr(getattr(trainer.fit_loop, "_data_source", None), "instance", None)
        if loader in (trainer.datamodule, pl_module):
            loader = None
        kept = [vars(holder) for holder in (trainer.datamodule, pl_module) if holder is not None]
        self._found = MixesOf([loader, *kept])
        if self._found.mixes:
            self._next = self.mix.epoch

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Checks that all mixes of the training were found, and that there is none in validation.

        Raises:
            ConfigurationError: a mix that is built inside of ``train_dataloader``; or no mix at all.
        """
        found = {id(mix) for mix in self._found.mixes}
        late = [mix for mix in MixesOf(trainer.train_dataloader).mixes if id(mix) not in found]
        if not self._is_given and (late or not found):
            raise ConfigurationError(
                "SetEpoch() must find the mixes before the first batch is read, got "
                f"{'one' if late else 'none'} in the training loader. A resumed run could not go on exactly. Build the "
                "mix in the DataModule's `setup` and keep it in an attribute: self.mixed = SyntheticMixDataset(...); "
                "or give it: SetEpoch(mixed)."
            )
        MixesOf(trainer.val_dataloaders).refuse("validation")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Raises `ConfigurationError` if validation data are synthetic."""
        MixesOf(trainer.val_dataloaders).refuse("validation")

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Raises `ConfigurationError` if test data are synthetic."""
        MixesOf(trainer.test_dataloaders).refuse("test")

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Sets the epoch. Not called in the epoch that a checkpoint goes on with: there `load_state_dict` does."""
        self._next = trainer.current_epoch
        self._found.set_epoch(self._next)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Remembers, for checkpoints, that the epoch is over."""
        self._next = trainer.current_epoch + 1

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Closes the pools, after an error, too."""
        if stage == "fit" and self._close_pools:
            self._found.close_pools()

    def state_dict(self) -> dict[str, Any]:
        """The states of the mixes, and the epoch to go on with."""
        return {"mixes": [mix.state_dict() for mix in self._found.mixes], "epoch": self._next}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores both.

        Raises:
            ConfigurationError: the checkpoint is of another number of mixes.
            StateMismatchError: the checkpoint is of another mix; every difference is listed.
        """
        states = state_dict["mixes"]
        if len(states) != len(self._found.mixes):
            raise ConfigurationError(
                f"The checkpoint must be of as many mixes as the training has, {len(self._found.mixes)}, got "
                f"{len(states)}. Build them as they were, in the DataModule's `setup`, or start a new run."
            )
        self._next = state_dict["epoch"]
        for mix, state in zip(self._found.mixes, states, strict=True):
            mix.load_state_dict(state)
        self._found.set_epoch(self._next)
