"""`Recipe`: what one family of generative models adds to the training loop: networks, losses, sampling settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor, nn
from torch.optim import Optimizer

from torchgenaug.contracts import Synthesizer
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.options import Condition, Options
from torchgenaug.recipes.settings import Setting
from torchgenaug.types import Batch

Update: TypeAlias = Callable[[Mapping[str, Tensor]], None]
"""Losses by the optimizers' names: gradients of each for that optimizer's parameters alone, clipped; then all step."""


@dataclass(frozen=True)
class Family:
    """What a user should know about a family before choosing it; each family's module has ``FAMILIES``, by name.

    The module also has ``build(family, data, options) -> Recipe``; `options` hold a value for each of `settings`.

    Attributes:
        summary: one line: what it is, who made it, what it is good for.
        steps: how long it trains unless the user says otherwise.
        batch_size: likewise.
        conditions: which conditions it can take; None: unconditional.
        dims: 2, 3 or both.
        with_mask: whether it can make masks together with images.
        teacher: whether it learns from a trained model, and needs one.
        pretrained: whether it fits a pretrained pipeline of diffusers, which `Options.start` names, and needs one.
        staged: whether only the end of its training makes the model that is wanted, so that it must not stop early.
        settings: what can be set about this family alone, by name: ``--set name=value``.
        unlabelled: whether it learns from samples whose label is not known (-1) when it is conditioned on the label.
        usable: leaves out samples that the family cannot use, with a warning; `fit` calls it before some are held out.
        view: adds the fields that the family derives from the data, such as images with a part left out; `fit` trains
            on, and judges by, what it returns.
        given: fields that its samples are conditioned on; None: `Options.condition`.
        conditions_by: what makes these fields for the user, as code; empty: `RealFields`.
    """

    summary: str
    steps: int
    batch_size: int
    conditions: tuple[Condition | None, ...] = (None,)
    dims: tuple[int, ...] = (2,)
    with_mask: bool = False
    teacher: bool = False
    pretrained: bool = False
    staged: bool = False
    settings: Mapping[str, Setting] = field(default_factory=dict)
    unlabelled: bool = False
    usable: Callable[[TrainingData, Options], TrainingData] | None = None
    view: Callable[[TrainingData, Options], TrainingData] | None = None
    given: tuple[str, ...] | None = None
    conditions_by: str = ""


class Recipe(Protocol):
    """The networks of one family on one data set, how they learn, and how they are sampled."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Everything that is trained, by name; made by `build_network` or by diffusers, so that it can be saved."""
        ...

    @property
    def averaged(self) -> frozenset[str]:
        """Networks that are sampled with an exponential moving average of their weights."""
        ...

    def optimizers(self) -> Mapping[str, Optimizer]:
        """Fresh optimizers by name; called once, after the networks were moved to their device."""
        ...

    def train_step(self, batch: Batch, update: Update, progress: float) -> Mapping[str, Tensor]:
        """One step.

        Args:
            batch: ``image`` and ``source`` float32 in [-1, 1], ``mask`` (batch, 1, *spatial) int64, ``label`` (batch,)
                int64: what the data have, on the device of the networks.
            update: to be called with the losses, each optimizer at most once; those of one graph together.
            progress: where training is, from 0 to 1.

        Returns:
            The losses to be shown, detached or not.

        Random numbers come from torch's default generators, which the loop seeds for every step.
        """
        ...

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> Synthesizer:
        """The synthesizer of these networks (copies or averages of its own), ready to be saved."""
        ...


@runtime_checkable
class GoesOn(Protocol):
    """A recipe whose training has a beginning that a trained model does not need again."""

    def go_on(self, untrained: frozenset[str]) -> None:
        """Called once, before the first step, where training begins with the weights of a trained model.

        Args:
            untrained: names of the networks that it has no weights for.
        """
        ...
