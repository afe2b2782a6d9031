"""`DiTSynthesizer`: diffusion transformers of diffusers, conditioned on classes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Self, Unpack

import torch
from torch import Tensor, nn

from torchgenaug import seeding
from torchgenaug.contracts import Stored
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.diffusion.dit_networks import checked_shapes, denoise
from torchgenaug.synthesizers.diffusion.folder import scheduler_from_config
from torchgenaug.synthesizers.diffusion.latents import decoded
from torchgenaug.synthesizers.diffusion.networks import checked_sample_shape
from torchgenaug.synthesizers.diffusion.sampler import (
    checked_computing,
    checked_scheduler,
    shared_settings,
    stored_parts,
)
from torchgenaug.synthesizers.diffusion.sampling import prepare_schedule, run_schedule
from torchgenaug.synthesizers.parts.checks import check_seeds, checked_labels, checked_value_range, in_float32
from torchgenaug.synthesizers.parts.compute import Caller
from torchgenaug.synthesizers.parts.fingerprints import diffusion_digest
from torchgenaug.synthesizers.parts.guidance import checked_guidance, guided, is_guided, twice
from torchgenaug.synthesizers.parts.options import (
    Compute,
    DiffusionOptions,
    DiffusionSampler,
    DiffusionSettings,
    checked_options,
)
from torchgenaug.synthesizers.parts.outputs import image_fields, to_image_fields
from torchgenaug.types import Batch, FieldSpec


class DiTSynthesizer:
    """Samples a `diffusers.DiTTransformer2DModel` with any diffusers scheduler, from one seed per sample.

    Deterministic, picklable, and safe in threads. The networks are **copied** (eval mode, no gradients). For the same
    noise the result is that of `diffusers.DiTPipeline`, but for models of any number of classes: that pipeline takes
    class 1000 for "any class", and so guides ImageNet models only. (It also clamps; see `clip`.)

    A network that also predicts variances (twice the output channels) is guided in the prediction alone; the variances
    are dropped unless the scheduler has ``variance_type="learned_range"`` or "learned".

    Args:
        transformer: `DiTTransformer2DModel`, or a `Transformer2DModel` with ``norm_type="ada_norm_zero"`` as older
            diffusers made them, of (batch, channels, size, size) and n classes (``num_embeds_ada_norm=n``), which come
            as the condition ``label``: int64, (batch,). "Any class" is its index n.
        scheduler: any scheduler of diffusers; only its class and configuration are used.
        vae: `AutoencoderKL` or `VQModel` that decodes the latents; None for a model of pixels.
        value_range: intensities that the model's -1 and 1 stand for.
        sampler: how it is sampled, a `DiffusionSampler`; its attributes (`steps`, `solver`, `guidance_scale`, `clip`)
            may be passed as keywords instead.
        compute: where it computes, a `Compute`; its attributes (`device`, `dtype`, `channels_last`, `compile`,
            `cuda_graph`) may be passed as keywords instead.

    Attributes:
        fields: ``image``: (channels, height, width) float32.
        num_classes: labels lie in [0, num_classes).
        condition_fields: ``label``.
        trained_on: what the model was trained on, JSON-ready; None where unknown. `save_synthesizer` keeps it.

    Raises:
        ConfigurationError: at construction, whatever can be known to fail then.

    References:
        Peebles, Xie (2023). Scalable diffusion models with transformers. ICCV, arXiv:2212.09748.
        Ho, Salimans (2022). Classifier-free diffusion guidance. arXiv:2207.12598.
        Nichol, Dhariwal (2021). Improved denoising diffusion probabilistic models. ICML (learned variances).
    """

    family: ClassVar[str] = "dit"

    def __init__(
        self,
        transformer: nn.Module,
        scheduler: Any,
        *,
        vae: nn.Module | None = None,
        value_range: tuple[float, float],
        sampler: DiffusionSampler | None = None,
        compute: Compute | None = None,
        **options: Unpack[DiffusionOptions],
    ) -> None:
        sampler, compute = checked_options(type(self).__name__, options, sampler, compute)
        steps, guidance_scale = sampler.steps, sampler.guidance_scale
        self.latent_shape, out_channels = checked_shapes(transformer)
        scheduler = checked_scheduler(scheduler, steps, sampler.solver)
        self._sample_shape = checked_sample_shape(self.latent_shape, vae)
        self.value_range = checked_value_range(value_range)
        self.steps, self.clip, self.guidance_scale = steps, bool(sampler.clip), checked_guidance(guidance_scale)
        self.num_classes: int = int(transformer.config.num_embeds_ada_norm)  # type: ignore[union-attr, arg-type]
        computing = checked_computing(transformer, compute)
        self.device, self.dtype, self.execution = computing
        self.trained_on: Mapping[str, Any] | None = None
        self.transformer = computing.frozen(transformer)
        self.vae = None if vae is None else computing.frozen_vae(vae)
        self._denoiser = Caller(denoise, self.execution)
        channels = self.latent_shape[0]
        learned = str(scheduler.config.get("variance_type")).startswith("learned")
        if learned and out_channels == channels:
            raise ConfigurationError(
                f"`scheduler` must not expect variances (variance_type={scheduler.config.variance_type!r}), got a "
                f"`transformer` that returns the {channels} channels of the prediction only. Set "
                "variance_type='fixed_small' in the scheduler."
            )
        self._used_channels = out_channels if learned else channels
        self._schedule = prepare_schedule(
            scheduler, steps, channels=channels, out_channels=self._used_channels, device=self.device
        )

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        **settings: Unpack[DiffusionSettings],
    ) -> Self:
        """A synthesizer from the folder of a `DiTPipeline`: ``transformer/``, ``scheduler/`` and, if there, ``vae/``.

        Only safetensors weights and diffusers' own classes are loaded; nothing in the folder is executed.

        Args:
            path: a local folder, or the id of a repository on the Hugging Face hub.
            revision: commit of that repository, 40 hexadecimal digits; a branch or tag could change under your feet.

        The other keywords are those of the constructor.

        Raises:
            SynthesizerLoadError: no such folder, another layout, pickled weights, or a class that is not one of
                diffusers' own.
            ConfigurationError: as in the constructor.
        """
        from torchgenaug.synthesizers.diffusion.folder import named_faults
        from torchgenaug.synthesizers.diffusion.layouts import load_dit

        with named_faults(path):
            loaded = load_dit(path, revision)
            vae = loaded.networks.get("vae")
            return cls(loaded.networks["transformer"], loaded.scheduler, vae=vae, **settings)

    @property
    def scheduler(self) -> Any:
        """A copy of the scheduler, its timesteps set."""
        return copy.deepcopy(self._schedule.scheduler)

    @cached_property
    def fields(self) -> Mapping[str, FieldSpec]:
        """``image``."""
        return image_fields(self._sample_shape, self.value_range, label_channels=0, clip=self.clip)

    @property
    def condition_fields(self) -> Mapping[str, FieldSpec]:
        """What the conditions must hold."""
        return {"label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, max(1, self.num_classes - 1)))}

    @property
    def settings(self) -> dict[str, Any]:
        """The sampling settings, JSON-ready: what the constructor needs apart from networks, scheduler and device."""
        return shared_settings(self)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over weights (in the compute dtype), configurations and settings; not the device, nor CUDA graphs."""
        described = {"family": self.family}
        return diffusion_digest(described, self.settings, self._schedule.scheduler, self._networks())

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One sample per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: ``label``, int64 (batch,) in [0, num_classes).

        Returns:
            ``image``, batch axis first, on `device`.

        Raises:
            ConfigurationError: no seeds, or labels that are missing or do not fit.
            BadSampleError: NaN or Inf that `clip` would hide.
        """
        check_seeds(seeds)
        labels = checked_labels(conditions, len(seeds), self.num_classes)
        noise = seeding.normal(seeding.derive(list(seeds), seeding.NOISE), self.latent_shape, device=self.device)
        # no_grad rather than inference_mode: samples are ordinary tensors, usable in training.
        with torch.no_grad():
            classes = torch.zeros(0, dtype=torch.int64) if labels is None else labels.to(self.device)
            if is_guided(self.guidance_scale):
                classes = torch.cat([classes, torch.full_like(classes, self.num_classes)])
            samples = run_schedule(self._schedule, partial(self._predict, classes), noise, seeds)
            return to_image_fields(
                decoded(samples, self.vae), seeds, self.value_range, label_channels=0, clip=self.clip
            )

    def stored(self) -> Stored:
        """Settings and networks, as `save_synthesizer` writes them."""
        return stored_parts(self.settings, self._schedule.scheduler, self._networks())

    @classmethod
    def from_stored(cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None) -> Self:
        """The synthesizer that `stored` describes; see `Storable.from_stored`."""
        arguments = stored.arguments(device, dtype)
        return cls(
            stored.networks["transformer"],
            scheduler_from_config(arguments.pop("scheduler"), "settings of the saved synthesizer"),
            vae=stored.networks.get("vae"),
            **arguments,
        )

    def _networks(self) -> dict[str, nn.Module]:
        return {"transformer": self.transformer} | ({} if self.vae is None else {"vae": self.vae})

    def _predict(self, labels: Tensor, latents: Tensor, timestep: Tensor) -> Tensor:
        inputs = latents.to(self.dtype)
        if not is_guided(self.guidance_scale):
            return self._output(inputs, timestep, labels)
        output = self._output(twice(inputs), timestep, labels)
        channels = self.latent_shape[0]
        prediction = guided(output[:, :channels], self.guidance_scale)
        if self._used_channels == channels:
            return prediction
        return torch.cat([prediction, output[: len(inputs), channels:]], 1)

    def _output(self, inputs: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        return in_float32(self._denoiser(self.transformer, inputs, timestep, labels))[:, : self._used_channels]

    def __repr__(self) -> str:
        scheduler = type(self._schedule.scheduler).__name__
        return (
            f"DiTSynthesizer({self._sample_shape}, {scheduler}, steps={self.steps}, num_classes={self.num_classes}, "
            f"{self.device})"
        )
