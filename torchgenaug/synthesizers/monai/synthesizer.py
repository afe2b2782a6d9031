"""`MonaiSynthesizer`: diffusion models made with MONAI, 2D and 3D, in pixel space or behind an autoencoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Self, Unpack, cast

import torch
from torch import Tensor, nn

from torchgenaug import seeding
from torchgenaug.contracts import DenoisingModel, Stored
from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.one_pass import OnePassNetwork
from torchgenaug.synthesizers.monai import networks
from torchgenaug.synthesizers.monai.conditions import in_network_range
from torchgenaug.synthesizers.monai.conventions import Conventions, MonaiOptions
from torchgenaug.synthesizers.monai.denoiser import Denoiser, checked_sample_shape
from torchgenaug.synthesizers.monai.one_pass import one_pass_synthesizer
from torchgenaug.synthesizers.monai.schedulers import described, rebuilt
from torchgenaug.synthesizers.monai.steps import planned_steps, run_steps
from torchgenaug.synthesizers.monai.wiring import ConditionInputs, infer_wiring
from torchgenaug.synthesizers.parts.checks import (
    check_finite,
    check_label_channels,
    check_seeds,
    checked_dtype,
    checked_labels,
    checked_value_range,
)
from torchgenaug.synthesizers.parts.denoising import denoiser_of
from torchgenaug.synthesizers.parts.fingerprints import module_digest, settings_digest
from torchgenaug.synthesizers.parts.guidance import checked_classes, guided, is_guided, num_labels, twice
from torchgenaug.synthesizers.parts.options import Compute, DiffusionSampler, checked_options
from torchgenaug.synthesizers.parts.outputs import image_fields
from torchgenaug.types import Batch, FieldSpec


class MonaiSynthesizer:
    """Samples a `DiffusionModelUNet` of MONAI, from one seed per sample, unconditional or conditioned on many things.

    Deterministic, picklable, and safe in threads. The networks are **copied** (eval mode, no gradients, dropout of
    attention off); the scheduler is read, never stepped. The result is that of MONAI's inferers for the same noise.
    So is what few steps of `DDIMScheduler` leave: its times are (T - 1) / (steps - 1) apart, its steps T // steps long,
    and samples keep the noise between. ``steps_offset=T // steps - 1`` makes both equal where T can be divided.

    **Conditions.** Classes (``label``) where the network has them. An image: the class mask (`mask_classes`) or a
    source image (`source`), which goes where the networks take it: into the SPADE layers, into the `controlnet`, or
    else concatenated to the noisy input, behind it. Numbers (`covariates`): as one context vector where the network has
    cross-attention, and, if it has the channels, concatenated as constant channels, last. Concatenated or as control, a
    mask is one-hot, or class numbers for one channel; behind an autoencoder it is averaged, and a source is encoded.

    Args:
        unet: `DiffusionModelUNet` or `SPADEDiffusionModelUNet`. For the generator of a GAN or the decoder of a VAE, as
            `load_monai_bundle` returns them, the result is a `ModuleSynthesizer`.
        scheduler: `DDPMScheduler` (all its steps), `DDIMScheduler`, `PNDMScheduler` (``skip_prk_steps=True``) or
            `RFlowScheduler` of MONAI; what decides its steps is copied.
        size: spatial size of the images (of the images, not the latents).
        autoencoder: `AutoencoderKL`, `VQVAE` or `SPADEAutoencoderKL` of a latent diffusion model.
        scale_factor: what latents were multiplied by in training (MONAI: 1 / their standard deviation).
        controlnet: `ControlNet` for the mask or source.
        null_class: class index that stands for "any class", usually the last one.
        mask_classes: classes of the condition ``mask``, (batch, 1, *size) integers; background included.
        source: spec of the condition ``source``: an image of `size` in its value range.
        covariates: name → (low, high) of scalar conditions in the order of the network, scaled to [0, 1] by it.
        value_range: intensities that the ends of `network_range` stand for.
        network_range: darkest and brightest value in training; many MONAI models have (0, 1).
        label_channels: if n > 0, the last n channels are class scores: the field ``mask`` is their argmax.
        sampler: how it is sampled, a `DiffusionSampler` (without `solver`); its attributes (`steps`, `guidance_scale`,
            `clip`) may be passed as keywords instead.
        compute: where it computes, a `Compute` (`device` and `dtype`), which may be passed as keywords instead.

    Attributes:
        fields: ``image``: (channels, *size) float32; ``mask`` with `label_channels`: (1, *size) int64.
        num_classes: labels lie in [0, num_classes); None for a model without classes.
        trained_on: what the model was trained on, JSON-ready; None where unknown. `save_synthesizer` keeps it.

    Raises:
        ConfigurationError: at construction, whatever can be known to fail then.
        MissingExtraError: MONAI is not installed.

    References:
        Pinaya et al. (2023). Generative AI for medical imaging: extending the MONAI framework. arXiv:2307.15208.
        Ho, Salimans (2022). Classifier-free diffusion guidance. arXiv:2207.12598.
    """

    family: ClassVar[str] = "monai"

    def __new__(cls, unet: object = None, scheduler: object = None, **settings: Any) -> Any:
        """A `ModuleSynthesizer` for the generator or decoder of a bundle, which has no noise levels to walk."""
        if isinstance(unet, OnePassNetwork):
            return one_pass_synthesizer(unet, scheduler, settings)
        return super().__new__(cls)

    def __init__(
        self,
        unet: nn.Module,
        scheduler: Any,
        *,
        size: Sequence[int],
        autoencoder: nn.Module | None = None,
        controlnet: nn.Module | None = None,
        value_range: tuple[float, float],
        sampler: DiffusionSampler | None = None,
        compute: Compute | None = None,
        **options: Unpack[MonaiOptions],
    ) -> None:
        trained: Conventions
        sampler, compute, trained = checked_options(type(self).__name__, options, sampler, compute, Conventions)
        networks.check_unsupported(sampler, compute)
        steps, guidance_scale = sampler.steps, sampler.guidance_scale
        networks.check_class(unet, "unet", networks.UNETS)
        self.size = networks.checked_size(size, unet)
        if autoencoder is not None:
            networks.check_class(autoencoder, "autoencoder", networks.AUTOENCODERS)
        if controlnet is not None:
            networks.check_class(controlnet, "controlnet", networks.CONTROLNETS)
        classes: Any = unet.num_class_embeds
        self._embeddings = checked_classes(classes, trained.null_class, guidance_scale)
        self.value_range = checked_value_range(value_range)
        self.network_range = checked_value_range(trained.network_range)
        self.scale_factor = networks.checked_scale_factor(trained.scale_factor, autoencoder)
        self.dtype = checked_dtype(compute.dtype)
        self.device = next(unet.parameters()).device if compute.device is None else torch.device(compute.device)
        self.steps, self.clip = steps, bool(sampler.clip)
        self.label_channels, self.null_class = trained.label_channels, trained.null_class
        self.guidance_scale = None if guidance_scale is None else float(guidance_scale)
        self.trained_on: Mapping[str, Any] | None = None

        self._denoiser = Denoiser(unet, controlnet, autoencoder, self.device, self.dtype)
        self.latent_shape = networks.latent_shape(unet, self._denoiser.autoencoder, self.size)
        networks.check_divisible(self.latent_shape[1:], unet, self.size)
        self._wiring = infer_wiring(
            unet,
            autoencoder,
            controlnet,
            latent=self.latent_shape,
            size=self.size,
            mask_classes=trained.mask_classes,
            source=trained.source,
            covariates=trained.covariates,
            network_range=self.network_range,
        )
        self._sample_shape = checked_sample_shape(self._denoiser, self._wiring)
        check_label_channels(self.label_channels, self._sample_shape[0])
        if self.label_channels and trained.mask_classes is not None:
            raise ConfigurationError(
                f"`label_channels` must be 0 with `mask_classes`, got {self.label_channels}. A sample would have two "
                "masks: the one conditioning for and the one made."
            )
        self._schedule, self._tables = described(scheduler)
        numel = int(torch.tensor(self.latent_shape[1:]).prod())
        self._steps = planned_steps(rebuilt(self._schedule, self._tables), steps, numel)
        # One row a step: MONAI's networks take a vector of times, and broadcast one of length 1.
        self._times = torch.tensor([[step.timestep] for step in self._steps], device=self.device)

    # Of the constructor, which __new__ hides from help() and from the documentation.
    __signature__: ClassVar[inspect.Signature] = inspect.signature(__init__).replace(
        parameters=list(inspect.signature(__init__).parameters.values())[1:]
    )

    @property
    def unet(self) -> nn.Module:
        """The network that is sampled."""
        return self._denoiser.unet

    @property
    def scheduler(self) -> Any:
        """A fresh scheduler with the same steps; its timesteps are not set."""
        return rebuilt(self._schedule, self._tables)

    @cached_property
    def num_classes(self) -> int | None:
        """Labels lie in [0, num_classes); None for a model without classes."""
        return num_labels(self._embeddings, self.null_class)

    @cached_property
    def fields(self) -> Mapping[str, FieldSpec]:
        """``image``, and ``mask`` with `label_channels`."""
        return image_fields(self._sample_shape, self.value_range, label_channels=self.label_channels, clip=self.clip)

    @property
    def settings(self) -> dict[str, Any]:
        """The sampling settings, JSON-ready: what the constructor needs apart from networks and device."""
        return {
            "scheduler": self._schedule,
            "size": list(self.size),
            "scale_factor": self.scale_factor,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "null_class": self.null_class,
            "mask_classes": self._wiring.mask_classes,
            "source": None if self._wiring.source is None else self._wiring.source.to_json(),
            "covariates": [[name, *limits] for name, limits in self._wiring.covariates.items()],
            "value_range": list(self.value_range),
            "network_range": list(self.network_range),
            "label_channels": self.label_channels,
            "clip": self.clip,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over weights (in the compute dtype), structure, steps and settings; not the device."""
        digests = {name: module_digest(network) for name, network in self._denoiser.networks().items()}
        return settings_digest(
            {"family": self.family, "settings": self.settings, "steps": [list(step) for step in self._steps]} | digests
        )

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One sample per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: ``label``, ``mask``, ``source`` and covariates, as far as the model is conditioned on them.

        Returns:
            The fields, batch axis first, on `device`.

        Raises:
            ConfigurationError: no seeds, or conditions that are missing or do not fit.
            BadSampleError: NaN or Inf that `clip` or the argmax of the mask would hide.
        """
        check_seeds(seeds)
        start = seeding.normal(seeding.derive(list(seeds), seeding.NOISE), self.latent_shape, device=self.device)

        def noise_of(number: int) -> Tensor:
            keys = seeding.derive(list(seeds), seeding.STEP_NOISE, number)
            return seeding.normal(keys, self.latent_shape, device=self.device)

        # no_grad rather than inference_mode: samples are ordinary tensors, usable in training.
        with torch.no_grad():
            given = self._given(len(seeds), conditions)
            predict = self._predictor(given)
            latents = run_steps(self._steps, lambda number, x: predict(x, self._times[number]), start, noise_of)
            return self._to_fields(self._denoiser.decode(latents / self.scale_factor, given.segmentation), seeds)

    def denoiser(self, count: int, conditions: Batch | None = None) -> DenoisingModel:
        """The network under the conditions of `count` samples, in its `network_range`; see `Denoises`."""
        scheduler, predict = self.scheduler, self._predictor(self._given(count, conditions))

        def output(noisy: Tensor, time: int) -> Tensor:
            return predict(noisy, torch.tensor([time], device=self.device))

        return denoiser_of(scheduler, getattr(scheduler, "prediction_type", None), output, self.network_range)

    def stored(self) -> Stored:
        """Settings, networks and the scheduler's tables, as `save_synthesizer` writes them."""
        return Stored(self.settings, self._denoiser.networks(), self._tables)

    @classmethod
    def from_stored(cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None) -> Self:
        """The synthesizer that `stored` describes; see `Storable.from_stored`."""
        arguments = stored.arguments(device, dtype)
        source = arguments.pop("source")
        return cls(
            stored.networks["unet"],
            rebuilt(arguments.pop("scheduler"), stored.tensors),
            autoencoder=stored.networks.get("autoencoder"),
            controlnet=stored.networks.get("controlnet"),
            source=None if source is None else FieldSpec.from_json(source),
            covariates={name: (low, high) for name, low, high in arguments.pop("covariates")},
            **arguments,
        )

    def _encoding(self) -> Any:
        if self._denoiser.autoencoder is None:
            return None
        return lambda images: self._denoiser.encode(images).mul_(self.scale_factor)

    def _given(self, count: int, conditions: Batch | None) -> ConditionInputs:
        labels = checked_labels(conditions, count, self.num_classes, null_class=self.null_class)
        inputs = self._wiring.inputs(conditions, count, device=self.device, dtype=self.dtype, encode=self._encoding())
        return inputs._replace(labels=None if labels is None else labels.to(self.device))

    def _predictor(self, given: ConditionInputs) -> Callable[[Tensor, Tensor], Tensor]:
        """The network as a function of (samples, time) under these conditions."""
        if not is_guided(self.guidance_scale):
            return lambda samples, time: cast(Tensor, self._denoiser(samples.to(self.dtype), time, given))
        both = given.doubled(self.null_class or 0)
        return lambda samples, time: guided(
            self._denoiser(twice(samples.to(self.dtype)), time, both), self.guidance_scale
        )

    def _to_fields(self, samples: Tensor, seeds: Sequence[int]) -> Batch:
        if self.clip or self.label_channels:
            check_finite(samples, seeds)
        channels = samples.shape[1] - self.label_channels
        image = in_network_range(samples[:, :channels], self.network_range, self.value_range)
        batch = {"image": (image.clamp_(*self.value_range) if self.clip else image).contiguous()}
        if self.label_channels:
            batch["mask"] = samples[:, channels:].argmax(1, keepdim=True)
        return batch

    def __repr__(self) -> str:
        classes = "" if self.num_classes is None else f", num_classes={self.num_classes}"
        scheduler = self._schedule["class"]
        return f"MonaiSynthesizer({self._sample_shape}, {scheduler}, steps={self.steps}{classes}, {self.device})"
