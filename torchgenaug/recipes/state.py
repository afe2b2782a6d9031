"""What changes while a model trains: weights, their averages, optimizers, the step; saved and restored."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from torchgenaug.contracts import Synthesizer
from torchgenaug.devices import seed_generators
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import checkpoint
from torchgenaug.recipes.options import FitOptions
from torchgenaug.recipes.recipe import Recipe
from torchgenaug.recipes.small_volumes import SmallVolumes
from torchgenaug.seeding import derive

_STEP_STREAM = 101  # keys of `derive`: no other stream of numbers begins with it


class TrainingState:
    """A recipe being trained.

    Attributes:
        step: how many steps were done.
        losses: their means since the last report.
        history: one row of numbers per report.
        best: smallest distance to held-out images so far.
        since_best: reports since then.
    """

    def __init__(self, recipe: Recipe, accelerator: Any, options: FitOptions) -> None:
        self.recipe, self.accelerator, self.options = recipe, accelerator, options
        for network in recipe.networks.values():
            network.to(accelerator.device).train()
        self.optimizers = {name: accelerator.prepare(each) for name, each in recipe.optimizers().items()}
        self.averages = {
            name: copy.deepcopy(recipe.networks[name]).eval().requires_grad_(False) for name in sorted(recipe.averaged)
        }
        self.step = 0
        self.losses = MeanLosses()
        self.history: list[dict[str, float]] = []
        self.best = float("inf")
        self.since_best = 0
        self._last_micro_step = True
        self._stepped = False

    def update(self, losses: Mapping[str, Tensor]) -> None:
        """One step of the optimizers named; gradients of each loss reach its own optimizer's parameters only."""
        owned = {
            name: [
                each for group in self.optimizers[name].param_groups for each in group["params"] if each.requires_grad
            ]
            for name in losses
        }
        # All gradients before the first step: it changes what the others would be taken at.
        for left, (name, loss) in zip(reversed(range(len(losses))), losses.items(), strict=True):
            self.accelerator.backward(loss / self.options.accumulate, inputs=owned[name], retain_graph=left > 0)
        if self._last_micro_step:
            self._step(owned)

    def _step(self, owned: Mapping[str, list[Parameter]]) -> None:
        """Steps these optimizers; their gradients were scaled by one factor, which changes after the training step."""
        scaler = self.accelerator.scaler
        # accelerate's own wrappers unscale the gradients of all optimizers at each, and change the factor in between.
        plain = {name: getattr(self.optimizers[name], "optimizer", self.optimizers[name]) for name in owned}
        for name, parameters in owned.items():
            if self.accelerator.num_processes > 1:
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
            if scaler is not None:
                scaler.unscale_(plain[name])
            torch.nn.utils.clip_grad_norm_(parameters, self.options.max_grad_norm)
        for optimizer in plain.values():
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(optimizer)
            optimizer.zero_grad()
        self._stepped = True

    def train_step(self, batches: Iterator[Mapping[str, Tensor]], progress: float) -> dict[str, Tensor]:
        """All batches of one step; returns the losses of the last."""
        losses: Mapping[str, Tensor] = {}
        for micro in range(self.options.accumulate):
            self._last_micro_step = micro + 1 == self.options.accumulate
            batch = {name: values.to(self.accelerator.device) for name, values in next(batches).items()}
            keys = (self.options.seed, _STEP_STREAM, self.step, micro, self.accelerator.process_index)
            seed_generators(self.accelerator.device, int(derive(*keys)))
            with self.accelerator.autocast(), self._exact():
                losses = self.recipe.train_step(batch, self.update, progress)
        if self.accelerator.scaler is not None and self._stepped:
            self.accelerator.scaler.update()
        self._stepped = False
        self.step += 1
        self._average()
        return {name: value.detach() for name, value in losses.items()}

    def _exact(self) -> AbstractContextManager[object]:
        """What half precision gets wrong on this device, in full precision."""
        in_half = self.accelerator.device.type == "cpu" and self.options.precision == "bf16"
        return SmallVolumes() if in_half else nullcontext()

    @torch.no_grad()
    def _average(self) -> None:
        # The warm-up of the decay keeps the first, random weights out of the average.
        decay = min(self.options.ema_decay, (1 + self.step) / (10 + self.step))
        for name, average in self.averages.items():
            network = self.recipe.networks[name]
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
            for kept, new in zip(average.buffers(), network.buffers(), strict=True):
                kept.copy_(new)

    def diverged(self) -> dict[str, float]:
        """The sums of losses that are not finite, once weights are not either; waits for a GPU.

        With a scaler of half precision, a step of such losses is left out, and weights stay finite.
        """
        wrong = self.losses.wrong()
        weights = (each for network in self.recipe.networks.values() for each in network.parameters())
        return wrong if wrong and not all(bool(each.isfinite().all()) for each in weights) else {}

    def synthesizer(self) -> Synthesizer:
        """The synthesizer of the averaged networks."""
        return self.recipe.synthesizer({**self.recipe.networks, **self.averages})

    def save(self, folder: Path) -> None:
        """Writes the checkpoint."""
        state = {
            "step": self.step,
            "losses": self.losses.state(),
            "history": self.history,
            "best": self.best,
            "since_best": self.since_best,
            "networks": {name: network.state_dict() for name, network in self.recipe.networks.items()},
            "averages": {name: network.state_dict() for name, network in self.averages.items()},
            "optimizers": {name: each.state_dict() for name, each in self.optimizers.items()},
            "scaler": None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
        }
        checkpoint.save(folder, state)

    def resume(self, folder: Path) -> None:
        """Takes up the checkpoint, if there is one."""
        state = checkpoint.load(folder, self.accelerator.device)
        if state is None:
            return
        if state["networks"].keys() != self.recipe.networks.keys():
            raise ConfigurationError(
                f"`out` must hold a run of these networks, {sorted(self.recipe.networks)}, got one of "
                f"{sorted(state['networks'])} in {str(folder)!r}, of an earlier version. It cannot go on. Begin again "
                "with --fresh; or, where the family takes --from, with its weights: --from FOLDER --out ANOTHER"
            )
        self.step, self.history = state["step"], state["history"]
        self.best, self.since_best = state["best"], state["since_best"]
        self.losses = MeanLosses(state["losses"])
        for kind, targets in (("networks", self.recipe.networks), ("averages", self.averages)):
            for name, network in targets.items():
                network.load_state_dict(state[kind][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        if state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])


class MeanLosses:
    """Means of the losses since they were last taken; tensors are read only then, so that no step waits for a GPU."""

    def __init__(self, state: Mapping[str, tuple[float, int]] | None = None) -> None:
        state = state or {}
        self._sums: dict[str, Tensor | float] = {name: total for name, (total, _) in state.items()}
        self._counts: dict[str, int] = {name: count for name, (_, count) in state.items()}

    def state(self) -> dict[str, tuple[float, int]]:
        """What the constructor takes: sum and count of each loss."""
        return {name: (float(total), self._counts[name]) for name, total in self._sums.items()}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Counts the losses of one step in."""
        for name, value in losses.items():
            # In float64: a sum that was saved and read back goes on as if it had not been.
            self._sums[name] = self._sums.get(name, 0.0) + value.double()
            self._counts[name] = self._counts.get(name, 0) + 1

    def wrong(self) -> dict[str, float]:
        """The sums that are not finite."""
        sums = {name: float(total) for name, total in self._sums.items()}
        return {name: total for name, total in sums.items() if not math.isfinite(total)}

    def take(self) -> dict[str, float]:
        """The means so far; begins again."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means
