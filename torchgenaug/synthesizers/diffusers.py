"""`DiffusersSynthesizer`: diffusion models made with diffusers, in pixel space or behind an autoencoder."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers import networks
from torchgenaug.synthesizers.checks import checked_dtype, checked_labels, checked_value_range
from torchgenaug.synthesizers.execution import Caller, checked_execution
from torchgenaug.synthesizers.fingerprints import component_description, settings_digest, weights_digest
from torchgenaug.synthesizers.outputs import OVERSHOOT, image_fields, to_image_fields
from torchgenaug.synthesizers.sampling import prepare_schedule, run_schedule
from torchgenaug.synthesizers.solvers import with_solver
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
            come as the condition ``label``: int64, (batch,).
        scheduler: any scheduler of diffusers; only its class and configuration are used.
        solver: walk the scheduler's noise levels by another solver: "dpm++" or "unipc" (good from about 10 steps on),
            "ddim", "euler", "lcm" (1-8 steps, distilled networks only), "flow" (flow matching). See `solvers`. Only
            the resulting scheduler is kept, not the name.
        vae: `AutoencoderKL` or `VQModel` that decodes the latents of a latent diffusion model. It computes in float32
            if its configuration says ``force_upcast`` and `dtype` is float16.
        steps: inference steps. Some schedulers (Heun, PNDM) call the network more often.
        guidance_scale: weight of classifier-free guidance, s in ``e = e_null + s (e_label - e_null)``: 1 + w of Ho and
            Salimans (2022), equation 6. 1 or None: no guidance. Needs `null_class`.
        value_range: intensities that the model's -1 and 1 stand for.
        label_channels: if n > 0, the last n channels are class scores: the field ``mask`` is their argmax.
        clip: clamp the image to `value_range`, and say so in its field.
        null_class: class index that stands for "any class", usually the last one.
        device: where to compute and where samples are made; default: where the given `unet` is.
        dtype: dtype of weights and activations, default float32 (whatever the given ones have). Latents between the
            steps and samples are float32. Half precision pays on GPUs (bfloat16 for networks that overflow in float16)
            and on CPUs that compute in bfloat16; it moves samples by about 1e-2.
        channels_last: memory layout of the weights. None: channels last on a CPU, as they are elsewhere. On GPUs it can
            pay with half precision and convolutions of 64 channels or more.
        compile: compile `unet` with torch.compile, once for every batch size, which takes half a minute to minutes and
            pays from some thousands of samples on. True is "inductor"; or the name of another backend.
        cuda_graph: replay `unet` as a CUDA graph, captured once for every batch size. Pays where the GPU waits for
            Python: small networks and small batches.

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

    def __init__(
        self,
        unet: nn.Module,
        scheduler: Any,
        *,
        vae: nn.Module | None = None,
        steps: int = 50,
        solver: str | None = None,
        guidance_scale: float | None = None,
        value_range: tuple[float, float],
        label_channels: int = 0,
        clip: bool = False,
        null_class: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool | None = None,
        compile: bool | str = False,  # noqa: A002 (the name that users know from torch.compile)
        cuda_graph: bool = False,
    ) -> None:
        self.latent_shape = networks.checked_latent_shape(unet, scheduler)
        networks.check_scheduler(scheduler, steps)
        scheduler = with_solver(scheduler, solver, steps)
        self._embeddings = networks.checked_class_embeddings(unet, null_class, guidance_scale)
        self._sample_shape = networks.checked_sample_shape(self.latent_shape, vae)
        self.value_range = checked_value_range(value_range)
        networks.check_label_channels(label_channels, self._sample_shape[0])
        self.steps, self.label_channels, self.clip = steps, label_channels, bool(clip)
        self.guidance_scale = None if guidance_scale is None else float(guidance_scale)
        self.null_class = null_class
        self.dtype = checked_dtype(dtype)
        self.device = next(unet.parameters()).device if device is None else torch.device(device)
        self.trained_on: Mapping[str, Any] | None = None
        self.execution = checked_execution(channels_last, compile, cuda_graph, self.device)
        self.unet = networks.frozen_copy(unet, self.device, self.dtype, channels_last)
        self.vae: nn.Module | None = None
        if vae is not None:
            self.vae = networks.frozen_copy(vae, self.device, networks.vae_dtype(vae, self.dtype), channels_last)
        self._denoiser = Caller(_denoise, self.execution)
        config: Any = unet.config
        self._schedule = prepare_schedule(
            scheduler,
            steps,
            channels=config.in_channels,
            out_channels=config.out_channels,
            device=self.device,
        )

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        steps: int = 50,
        solver: str | None = None,
        guidance_scale: float | None = None,
        value_range: tuple[float, float],
        label_channels: int = 0,
        clip: bool = False,
        null_class: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool | None = None,
        compile: bool | str = False,  # noqa: A002 (the name that users know from torch.compile)
        cuda_graph: bool = False,
    ) -> DiffusersSynthesizer:
        """A synthesizer from a diffusers folder: ``unet/``, ``scheduler/`` and, if there, ``vae/`` or ``vqvae/``.

        Only safetensors weights and diffusers' own classes are loaded; nothing in the folder is executed.

        Args:
            path: a local folder, or the id of a repository on the Hugging Face hub.
            revision: commit of that repository, 40 hexadecimal digits; a branch or tag could change under your feet.
            steps: as in the constructor, and so are the arguments that follow.
            solver: walk the scheduler's noise levels by another solver.
            guidance_scale: weight of classifier-free guidance.
            value_range: intensities that the model's -1 and 1 stand for.
            label_channels: number of trailing channels that are class scores.
            clip: clamp the image to `value_range`.
            null_class: class index that stands for "any class".
            device: where to compute; default: CPU.
            dtype: compute dtype; float32 even for float16 weights unless given.
            channels_last: memory layout of the weights.
            compile: compile the network.
            cuda_graph: replay the network as a CUDA graph.

        Raises:
            SynthesizerLoadError: no such folder, pickled weights, or a class that is not one of diffusers' own.
            ConfigurationError: as in the constructor.
        """
        from torchgenaug.synthesizers.pipelines import load_components

        unet, scheduler, vae = load_components(path, revision)
        return cls(
            unet,
            scheduler,
            vae=vae,
            steps=steps,
            solver=solver,
            guidance_scale=guidance_scale,
            value_range=value_range,
            label_channels=label_channels,
            clip=clip,
            null_class=null_class,
            device=device,
            dtype=dtype,
            channels_last=channels_last,
            compile=compile,
            cuda_graph=cuda_graph,
        )

    @property
    def scheduler(self) -> Any:
        """A copy of the scheduler, its timesteps set."""
        return copy.deepcopy(self._schedule.scheduler)

    @cached_property
    def num_classes(self) -> int | None:
        """Labels lie in [0, num_classes); None for an unconditional model."""
        if self._embeddings is None:
            return None
        return self._embeddings - (self.null_class == self._embeddings - 1)

    @cached_property
    def fields(self) -> Mapping[str, FieldSpec]:
        """``image``, and ``mask`` with `label_channels`."""
        return image_fields(self._sample_shape, self.value_range, label_channels=self.label_channels, clip=self.clip)

    @property
    def settings(self) -> dict[str, Any]:
        """The sampling settings, JSON-ready: what the constructor needs beside networks, scheduler and device."""
        return {
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "value_range": list(self.value_range),
            "label_channels": self.label_channels,
            "clip": self.clip,
            "null_class": self.null_class,
            "dtype": str(self.dtype).removeprefix("torch."),
            **self.execution.settings,
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over weights (in the compute dtype), configurations and settings; not the device, nor CUDA graphs."""
        settings = {name: value for name, value in self.settings.items() if name != "cuda_graph"}
        components = {"scheduler": component_description(self._schedule.scheduler)}
        for name, net in (("unet", self.unet), ("vae", self.vae)):
            if net is not None:
                components[name] = component_description(net) | {"weights": weights_digest(net)}
        return settings_digest({"family": "diffusers", "settings": settings} | components)

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One sample per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: ``label``, int64 (batch,), for a class-conditional model.

        Returns:
            The fields, batch axis first, on `device`.

        Raises:
            ConfigurationError: no seeds, or labels that are missing, surplus or out of range.
            BadSampleError: NaN or Inf that `clip` or the argmax of the mask would hide.
        """
        if len(seeds) == 0:
            raise ConfigurationError("`seeds` must hold at least one seed, got none.")
        labels = checked_labels(conditions, len(seeds), self.num_classes, null_class=self.null_class)
        noise = seeding.normal(seeding.derive(list(seeds), seeding.NOISE), self.latent_shape, device=self.device)
        # no_grad rather than inference_mode: samples are ordinary tensors, usable in training.
        with torch.no_grad():
            predict = partial(self._predict, None if labels is None else self._embedded(labels))
            samples = self._decode(run_schedule(self._schedule, predict, noise, seeds))
            return to_image_fields(samples, seeds, self.value_range, label_channels=self.label_channels, clip=self.clip)

    @property
    def _guided(self) -> bool:
        return self.guidance_scale is not None and self.guidance_scale != 1

    def _embedded(self, labels: Tensor) -> Tensor:
        """The labels on the device, doubled for guidance."""
        labels = labels.to(self.device)
        return torch.cat([labels, torch.full_like(labels, self.null_class or 0)]) if self._guided else labels

    def _predict(self, labels: Tensor | None, latents: Tensor, timestep: Tensor) -> Tensor:
        inputs = latents.to(self.dtype)
        if self._guided:
            inputs = torch.cat([inputs, inputs])
        output = self._denoiser(self.unet, inputs, timestep, labels).float()
        if not self._guided:
            return output
        with_label, without = output.chunk(2)
        return torch.lerp(without, with_label, float(self.guidance_scale or 0))

    def _decode(self, latents: Tensor) -> Tensor:
        if self.vae is None:
            return latents
        decoded: Tensor = self.vae.decode(  # type: ignore[operator]
            networks.to_vae_scale(latents, self.vae).to(next(self.vae.parameters()).dtype), return_dict=False
        )[0]
        return decoded.float()

    def __repr__(self) -> str:
        scheduler = type(self._schedule.scheduler).__name__
        classes = "" if self.num_classes is None else f", num_classes={self.num_classes}"
        return f"DiffusersSynthesizer({self._sample_shape}, {scheduler}, steps={self.steps}{classes}, {self.device})"


def _denoise(unet: nn.Module, latents: Tensor, timestep: Tensor, labels: Tensor | None) -> Tensor:
    output: Tensor = unet(latents, timestep, class_labels=labels, return_dict=False)[0]
    return output
