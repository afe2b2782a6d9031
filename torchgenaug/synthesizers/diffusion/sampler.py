"""The arguments that every synthesizer of a diffusion model of diffusers takes: checked, used, described."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from torchgenaug.contracts import Stored
from torchgenaug.synthesizers.diffusion.networks import check_scheduler, frozen_copy, vae_dtype
from torchgenaug.synthesizers.diffusion.solvers import with_solver
from torchgenaug.synthesizers.parts.checks import checked_dtype
from torchgenaug.synthesizers.parts.compute import Execution, checked_execution
from torchgenaug.synthesizers.parts.options import Compute, DiffusionSettings
from torchgenaug.types import FieldSpec


class DiffusersSettings(DiffusionSettings, total=False):
    """What `DiffusersSynthesizer.from_pretrained` passes on to the constructor."""

    source: FieldSpec | None
    label_channels: int
    null_class: int | None


class Sampled(Protocol):
    """A synthesizer that keeps these arguments, checked, as public attributes."""

    steps: int
    guidance_scale: float | None
    value_range: tuple[float, float]
    clip: bool
    dtype: torch.dtype
    execution: Execution


class Computing(NamedTuple):
    """Where and how networks compute, checked.

    Attributes:
        device: of networks and samples.
        dtype: of weights and activations.
        execution: layout, compilation and CUDA graphs.
    """

    device: torch.device
    dtype: torch.dtype
    execution: Execution

    def frozen(self, network: nn.Module) -> nn.Module:
        """A copy of the network, in eval mode and without gradients."""
        return frozen_copy(network, self.device, self.dtype, self.execution.channels_last)

    def frozen_vae(self, vae: nn.Module) -> nn.Module:
        """The same of an autoencoder, in a dtype that does not overflow."""
        return frozen_copy(vae, self.device, vae_dtype(vae, self.dtype), self.execution.channels_last)


def checked_computing(network: nn.Module, compute: Compute) -> Computing:
    """The settings as they will be used; by default on the device of `network`, in float32.

    Raises:
        ConfigurationError: a dtype that networks do not compute in, or what `checked_execution` refuses.
    """
    device = next(network.parameters()).device if compute.device is None else torch.device(compute.device)
    return Computing(device, checked_dtype(compute.dtype), checked_execution(compute, device))


def checked_scheduler(scheduler: Any, steps: int, solver: str | None) -> Any:
    """The scheduler that will be stepped: `scheduler`, or `solver` on its noise levels.

    Raises:
        ConfigurationError: no scheduler of diffusers, an unknown solver, or more steps than there are noise levels.
    """
    check_scheduler(scheduler, steps)
    return with_solver(scheduler, solver, steps)


def shared_settings(synthesizer: Sampled) -> dict[str, Any]:
    """These arguments, JSON-ready, under their names in the constructor; without the device."""
    return {
        "steps": synthesizer.steps,
        "guidance_scale": synthesizer.guidance_scale,
        "value_range": list(synthesizer.value_range),
        "clip": synthesizer.clip,
        "dtype": str(synthesizer.dtype).removeprefix("torch."),
        **synthesizer.execution.settings,
    }


def stored_parts(
    settings: Mapping[str, Any],
    scheduler: Any,
    networks: Mapping[str, nn.Module],
    tensors: Mapping[str, torch.Tensor] | None = None,
) -> Stored:
    """What `save_synthesizer` writes of a model of diffusers: the scheduler as its configuration."""
    return Stored({**settings, "scheduler": json.loads(scheduler.to_json_string())}, networks, tensors or {})
