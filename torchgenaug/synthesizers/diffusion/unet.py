"""`DiffusersSynthesizer`: diffusion models made with diffusers, in pixel space or behind an autoencoder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Self, Unpack

import torch
from torch import Tensor, nn

from torchgenaug import seeding
from torchgenaug.contracts import DenoisingModel, Stored
from torchgenaug.synthesizers.diffusion import networks
from torchgenaug.synthesizers.diffusion.folder import scheduler_from_config
from torchgenaug.synthesizers.diffusion.inputs import checked_inputs
from torchgenaug.synthesizers.diffusion.latents import decoded
from torchgenaug.synthesizers.diffusion.sampler import (
    DiffusersSettings,
    checked_computing,
    checked_scheduler,
    shared_settings,
    stored_parts,
)
from torchgenaug.synthesizers.diffusion.sampling import prepare_schedule, run_schedule
from torchgenaug.synthesizers.parts.checks import (
    check_label_channels,
    check_seeds,
    checked_value_range,
    in_float32,
)
from torchgenaug.synthesizers.parts.compute import Caller
from torchgenaug.synthesizers.parts.denoising import denoiser_of
from torchgenaug.synthesizers.parts.fingerprints import diffusion_digest
from torchgenaug.synthesizers.parts.guidance import guided, is_guided, num_labels, twice
from torchgenaug.synthesizers.parts.options import (
    Compute,
    DiffusionOptions,
    DiffusionSampler,
    checked_options,
)
from torchgenaug.synthesizers.parts.outputs import OVERSHOOT, image_fields, to_image_fields
from torchgenaug.types import Batch, FieldSpec

__all__ = ["OVERSHOOT", "DiffusersSynthesizer"]


class DiffusersSynthesizer:
    """Samples a `diffusers.UNet2DModel` with any diffusers scheduler, from one seed per sample.

    Deterministic, picklable, and safe in threads. The networks are **copied** (set to eval mode, without gradients):
    the given ones stay as they are, and training them further changes neither samples nor fingerprint.

    The model's [-1, 1] is mapped linearly to `value_range`. Nothing is clamped silently: without `clip`, values may
    overshoot by `OVERSHOOT` of the width (the field's range says so) and `SyntheticSequence` refuses what lies beyond.
    (A scheduler with ``clip_sample=True`` clamps its own predictions to [-1, 1]; that is its configuration, not ours.)

    Args:
        unet: denoiser of (batch, channels, height, width), unconditional or with ``num_class_embeds`` classes, which
            come as the condition ``label``: int64, (batch,). With ``class_embed_type="timestep"`` the label is any
            number, with "identity" there is a vector instead: ``embedding``, float, of `condition_fields`.
        scheduler: any scheduler of diffusers; only its class and configuration are used.
        vae: `AutoencoderKL` or `VQModel` that decodes the latents of a latent diffusion model. It computes in float32
            if its configuration says ``force_upcast`` and `dtype` is float16.
        source: spec of the condition ``source``, an image in its value range, for a network with more input channels
            than it denoises: those after the noisy ones. None: found from the channels, in `value_range`, with a
            warning.
        value_range: intensities that the model's -1 and 1 stand for.
        label_channels: if n > 0, the last n channels are class scores: the field ``mask`` is their argmax.
        null_class: class index that stands for "any class", usually the last one.
        sampler: how it is sampled, a `DiffusionSampler`; its attributes (`steps`, `solver`, `guidance_scale`, `clip`)
            may be passed as keywords instead.
        compute: where it computes, a `Compute`; its attributes (`device`, `dtype`, `channels_last`, `compile`,
            `cuda_graph`) may be passed as keywords instead.

    Attributes:
        fields: ``image``: (channels, height, width) float32; ``mask`` with `label_channels`: (1, height, width) int64.
        num_classes: labels lie in [0, num_classes); None for an unconditional model.
        execution: layout, compilation and CUDA graphs, as chosen.
        trained_on: what the model was trained on, JSON-ready; None where unknown. `save_synthesizer` keeps it.

    Raises:
        ConfigurationError: at construction, whatever can be known to fail then.

    References:
        Ho, Jain, Abbeel (2020). Denoising diffusion probabilistic models. NeurIPS.
        Ho, Salimans (2022). Classifier-free diffusion guidance. arXiv:2207.12598.
        Rombach et al. (2022). High-resolution image synthesis with latent diffusion models. CVPR.
    """

    family: ClassVar[str] = "diffusers"

    def __init__(
        self,
        unet: nn.Module,
        scheduler: Any,
        *,
        vae: nn.Module | None = None,
        source: FieldSpec | None = None,
        value_range: tuple[float, float],
        label_channels: int = 0,
        null_class: int | None = None,
        sampler: DiffusionSampler | None = None,
        compute: Compute | None = None,
        **options: Unpack[DiffusionOptions],
    ) -> None:
        sampler, compute = checked_options(type(self).__name__, options, sampler, compute)
        steps, guidance_scale = sampler.steps, sampler.guidance_scale
        self.latent_shape = networks.checked_latent_shape(unet, scheduler, conditioned=source is not None)
        scheduler = checked_scheduler(scheduler, steps, sampler.solver)
        self._embeddings = networks.checked_class_embeddings(unet, null_class, guidance_scale)
        self._sample_shape = networks.checked_sample_shape(self.latent_shape, vae)
        self.value_range = checked_value_range(value_range)
        check_label_channels(label_channels, self._sample_shape[0])
        self.steps, self.label_channels, self.clip = steps, label_channels, bool(sampler.clip)
        self.guidance_scale = None if guidance_scale is None else float(guidance_scale)
        self.null_class = null_class
        computing = checked_computing(unet, compute)
        self.device, self.dtype, self.execution = computing
        self._inputs = checked_inputs(
            unet,
            self.latent_shape,
            source=source,
            value_range=self.value_range,
            has_vae=vae is not None,
            dtype=self.dtype,
        )
        self.trained_on: Mapping[str, Any] | None = None
        self.unet = computing.frozen(unet)
        self.vae = None if vae is None else computing.frozen_vae(vae)
        self._denoiser = Caller(_denoise, self.execution)
        config: Any = unet.config
        self._schedule = prepare_schedule(
            scheduler, steps, channels=self.latent_shape[0], out_channels=config.out_channels, device=self.device
        )

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, revision: str | None = None, **settings: Unpack[DiffusersSettings]
    ) -> Self:
        """A synthesizer from a diffusers folder: ``unet/``, ``scheduler/`` and, if there, ``vae/`` or ``vqvae/``.

        Only safetensors weights and diffusers' own classes are loaded; nothing in the folder is executed.

        Args:
            path: a local folder, or the id of a repository on the Hugging Face hub.
            revision: commit of that repository, 40 hexadecimal digits; a branch or tag could change under your feet.

        The other keywords are those of the constructor.

        Raises:
            SynthesizerLoadError: no such folder, pickled weights, or a class that is not one of diffusers' own.
            ConfigurationError: as in the constructor.
        """
        from torchgenaug.synthesizers.diffusion.folder import load_components, named_faults

        with named_faults(path):
            unet, scheduler, vae = load_components(path, revision)
            return cls(unet, scheduler, vae=vae, **settings)

    @property
    def scheduler(self) -> Any:
        """A copy of the scheduler, its timesteps set."""
        return copy.deepcopy(self._schedule.scheduler)

    @cached_property
    def num_classes(self) -> int | None:
        """Labels lie in [0, num_classes); None for an unconditional model."""
        return num_labels(self._embeddings, self.null_class)

    @cached_property
    def fields(self) -> Mapping[str, FieldSpec]:
        """``image``, and ``mask`` with `label_channels`."""
        return image_fields(self._sample_shape, self.value_range, label_channels=self.label_channels, clip=self.clip)

    @property
    def condition_fields(self) -> Mapping[str, FieldSpec]:
        """What the conditions must hold, besides a ``label`` of `num_classes`."""
        return self._inputs.fields

    @property
    def settings(self) -> dict[str, Any]:
        """The sampling settings, JSON-ready: what the constructor needs apart from networks, scheduler and device."""
        shared = shared_settings(self)
        return {
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "value_range": shared["value_range"],
            # Between the shared ones, as in the folders that exist: the same synthesizer is saved as the same bytes.
            "label_channels": self.label_channels,
            "clip": self.clip,
            "null_class": self.null_class,
            # Left out where there is none: folders and fingerprints of models without one stay as they are.
            **({} if self._inputs.source is None else {"source": self._inputs.source.to_json()}),
            **shared,
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over weights (in the compute dtype), configurations and settings; not the device, nor CUDA graphs."""
        described = {"family": self.family}
        return diffusion_digest(described, self.settings, self._schedule.scheduler, self._networks())

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One sample per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: ``label``, int64 (batch,), for a class-conditional model, and what `condition_fields` names.
                None at all: a preview from neutral conditions, with a warning, except for a table of classes.

        Returns:
            The fields, batch axis first, on `device`.

        Raises:
            ConfigurationError: no seeds, or conditions that are missing, surplus or out of range.
            BadSampleError: NaN or Inf that `clip` or the argmax of the mask would hide.
        """
        check_seeds(seeds)
        # no_grad rather than inference_mode: samples are ordinary tensors, usable in training.
        with torch.no_grad():
            predict = self._predictor(len(seeds), conditions)
            noise = seeding.normal(seeding.derive(list(seeds), seeding.NOISE), self.latent_shape, device=self.device)
            samples = decoded(run_schedule(self._schedule, predict, noise, seeds), self.vae)
            return to_image_fields(
                samples,
                seeds,
                self.value_range,
                label_channels=self.label_channels,
                clip=self.clip,
                in_place=samples is noise,
            )

    def denoiser(self, count: int, conditions: Batch | None = None) -> DenoisingModel:
        """The network under the conditions of `count` samples, in its own [-1, 1]; see `Denoises`."""
        scheduler, predict = self._schedule.scheduler, self._predictor(count, conditions)

        def output(noisy: Tensor, time: int) -> Tensor:
            return predict(noisy, torch.tensor(time, device=self.device))

        return denoiser_of(scheduler, scheduler.config.get("prediction_type"), output, (-1.0, 1.0))

    def stored(self) -> Stored:
        """Settings and networks, as `save_synthesizer` writes them."""
        return stored_parts(self.settings, self._schedule.scheduler, self._networks())

    @classmethod
    def from_stored(cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None) -> Self:
        """The synthesizer that `stored` describes; see `Storable.from_stored`."""
        arguments = stored.arguments(device, dtype)
        if "source" in arguments:
            arguments["source"] = FieldSpec.from_json(arguments["source"])
        return cls(
            stored.networks["unet"],
            scheduler_from_config(arguments.pop("scheduler"), "settings of the saved synthesizer"),
            vae=stored.networks.get("vae"),
            **arguments,
        )

    def _predictor(self, count: int, conditions: Batch | None) -> Callable[[Tensor, Tensor], Tensor]:
        """The network as a function of (latents, timestep), under the conditions of `count` samples."""
        conditions = self._inputs.completed(conditions, count, self.num_classes)
        labels = self._inputs.labels(conditions, count, self.num_classes, self.null_class)
        source = self._inputs.channels(conditions, count)
        channels = None if source is None else source.to(self.device, self.dtype)
        return partial(self._predict, None if labels is None else self._embedded(labels), source=channels)

    def _networks(self) -> dict[str, nn.Module]:
        return {"unet": self.unet} | ({} if self.vae is None else {"vae": self.vae})

    def _embedded(self, labels: Tensor) -> Tensor:
        """The labels on the device, doubled for guidance."""
        labels = labels.to(self.device, self.dtype if labels.is_floating_point() else labels.dtype)
        if not is_guided(self.guidance_scale):
            return labels
        return torch.cat([labels, torch.full_like(labels, self.null_class or 0)])

    def _predict(
        self, labels: Tensor | None, latents: Tensor, timestep: Tensor, source: Tensor | None = None
    ) -> Tensor:
        inputs = latents.to(self.dtype)
        if source is not None:
            inputs = torch.cat([inputs, source], 1)
        if not is_guided(self.guidance_scale):
            return in_float32(self._denoiser(self.unet, inputs, timestep, labels))
        output = in_float32(self._denoiser(self.unet, twice(inputs), timestep, labels))
        return guided(output, self.guidance_scale)

    def __repr__(self) -> str:
        scheduler = type(self._schedule.scheduler).__name__
        classes = "" if self.num_classes is None else f", num_classes={self.num_classes}"
        return f"DiffusersSynthesizer({self._sample_shape}, {scheduler}, steps={self.steps}{classes}, {self.device})"


def _denoise(unet: nn.Module, latents: Tensor, timestep: Tensor, labels: Tensor | None) -> Tensor:
    output: Tensor = unet(latents, timestep, class_labels=labels, return_dict=False)[0]
    return output
