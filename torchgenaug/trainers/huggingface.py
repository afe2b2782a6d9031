"""`SetEpoch` for the `Trainer` of Hugging Face's transformers."""

from __future__ import annotations

import math
from typing import Any

from torchgenaug.errors import missing_extra
from torchgenaug.trainers.mixes import MixesOf

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise missing_extra("`torchgenaug.trainers.huggingface`", package="transformers", extra="transformers") from error


class SetEpoch(TrainerCallback):  # type: ignore[misc]
    """Sets the epoch of the mixes that a `Trainer` trains on, in every process, and of their samplers.

    A mix follows the trainer's own sampler by itself, in a run that goes on with ``resume_from_checkpoint``, too; with
    this callback it is at the trainer's epoch whatever the sampler is. Mixes are refused as evaluation data.

    Args:
        close_pools: whether to close the pools of the mixes when the training ends.

    Example:
        >>> trainer = Trainer(model, args, train_dataset=mixed, callbacks=[SetEpoch()])  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=True)  # doctest: +SKIP
    """

    def __init__(self, *, close_pools: bool = False) -> None:
        self.close_pools = close_pools
        self._evaluated: object = None

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        """Sets the epoch. In the middle of one, ``state.epoch`` is a fraction further."""
        MixesOf(train_dataloader).set_epoch(math.floor(state.epoch or 0))

    def on_prediction_step(self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **_: Any) -> None:
        """Looks at the evaluation data.

        Raises:
            ConfigurationError: they hold synthetic samples.
        """
        if eval_dataloader is not self._evaluated:
            self._evaluated = eval_dataloader
            MixesOf(eval_dataloader).refuse("evaluation")

    def on_train_end(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        """Closes the pools, if that is wanted."""
        if self.close_pools:
            MixesOf(train_dataloader).close_pools()
