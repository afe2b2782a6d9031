"""`StableDiffusionSynthesizer`: latent diffusion on prompts, from noise, from a real image, or into a part of one."""

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
from torchgenaug.synthesizers.diffusion.editing import Edit, checked_strength, prepare_edit, run_edit
from torchgenaug.synthesizers.diffusion.folder import scheduler_from_config
from torchgenaug.synthesizers.diffusion.latents import decoded
from torchgenaug.synthesizers.diffusion.prompts.networks import PromptedDenoiser, denoise
from torchgenaug.synthesizers.diffusion.prompts.task import PromptedOptions, PromptedSettings, PromptedTask
from torchgenaug.synthesizers.diffusion.prompts.wiring import ConditionInputs, infer_wiring
from torchgenaug.synthesizers.diffusion.sampler import (
    checked_computing,
    checked_scheduler,
    shared_settings,
    stored_parts,
)
from torchgenaug.synthesizers.diffusion.sampling import prepare_schedule, run_schedule
from torchgenaug.synthesizers.parts.checks import check_seeds, checked_value_range, in_float32
from torchgenaug.synthesizers.parts.compute import Caller
from torchgenaug.synthesizers.parts.fingerprints import diffusion_digest
from torchgenaug.synthesizers.parts.guidance import checked_control_scale, checked_guidance
from torchgenaug.synthesizers.parts.options import Compute, DiffusionSampler, checked_options
from torchgenaug.synthesizers.parts.outputs import image_fields, to_image_fields
from torchgenaug.types import Batch, FieldSpec


class StableDiffusionSynthesizer:
    """Samples a `diffusers.UNet2DConditionModel` behind an `AutoencoderKL`, from one seed and prompt per sample.

    Deterministic, picklable, and safe in threads. The networks are **copied** (eval mode, no gradients). For the same
    noise the result is that of diffusers' Stable Diffusion pipelines before they clamp, with two differences: a source
    image is encoded to the mean of its posterior, not to a draw, and every scheduler is scaled as it must be.

    **Conditions.** ``prompt_embeds``: (batch, tokens, dim) floating point, from `Prompts` and `encode_prompts`. In mode
    "image" (SDEdit) also ``source``: a real image in `value_range`; `strength` is the fraction of the noise schedule
    that is applied to it, 1 discards it. In mode "inpaint" ``source`` and ``mask``: (batch, 1, height, width), 1 where
    the model paints; a UNet of 2 c + 1 input channels reads mask and masked image itself, one of c has the known region
    put back in every step, in latents: it comes back as the autoencoder sees it, not bit by bit. With `controlnet` a
    control image or class mask.

    Args:
        unet: denoiser of (batch, channels, height, width) on prompts. One that was distilled with guidance
            (``time_cond_proj_dim``) gets `guidance_scale` as an input, and is not called twice.
        scheduler: any scheduler of diffusers; only its class and configuration are used.
        vae: `AutoencoderKL`, of images of one, three or any number of channels.
        controlnet: `ControlNetModel` that belongs to `unet`, in any mode.
        control: name → spec of the condition that it reads; default: ``source`` (in other modes than "text":
            ``control``), an image in [0, 1]. A label map of n classes comes one-hot where the network has n channels,
            else as class / (n - 1). An image of one channel is repeated.
        control_scale: what the ControlNet's residuals are multiplied with.
        mode: "text", "image" (or "img2img") or "inpaint".
        strength: of modes "image" (default 0.8) and "inpaint" (default 1), (0, 1]: the last ``int(steps * strength)``
            steps are done. Inpainting at 1 starts at noise alone.
        size: (height, width) of the images; default: what `unet` was trained on.
        negative_prompt_embeds: (tokens, dim) of the prompt that guidance leads away from: that of the empty text.
        value_range: intensities that the model's -1 and 1 stand for.
        sampler: how it is sampled, a `DiffusionSampler`; its attributes (`steps`, `solver`, `guidance_scale`, `clip`)
            may be passed as keywords instead.
        compute: where it computes, a `Compute`; its attributes (`device`, `dtype`, `channels_last`, `compile`,
            `cuda_graph`) may be passed as keywords instead.

    Attributes:
        fields: ``image``: (channels, height, width) float32.
        condition_fields: what the conditions must hold. ``prompt_embeds`` has 77 tokens there where that is open.
        trained_on: what the model was trained on, JSON-ready; None where unknown. `save_synthesizer` keeps it.

    Raises:
        ConfigurationError: at construction, whatever can be known to fail then.

    References:
        Rombach et al. (2022). High-resolution image synthesis with latent diffusion models. CVPR.
        Meng et al. (2022). SDEdit. ICLR (mode "image").
        Zhang, Rao, Agrawala (2023). Adding conditional control to text-to-image diffusion models. ICCV (ControlNet).
        Luo et al. (2023). Latent consistency models. arXiv:2310.04378.
    """

    family: ClassVar[str] = "stable_diffusion"

    def __init__(
        self,
        unet: nn.Module,
        scheduler: Any,
        *,
        vae: nn.Module,
        controlnet: nn.Module | None = None,
        value_range: tuple[float, float],
        sampler: DiffusionSampler | None = None,
        compute: Compute | None = None,
        **options: Unpack[PromptedOptions],
    ) -> None:
        task: PromptedTask
        sampler, compute, task = checked_options(type(self).__name__, options, sampler, compute, PromptedTask)
        steps, guidance_scale = sampler.steps, sampler.guidance_scale
        self.steps, self.clip, self.guidance_scale = steps, bool(sampler.clip), checked_guidance(guidance_scale)
        self.value_range = checked_value_range(value_range)
        self.control_scale = checked_control_scale(task.control_scale)
        self._wiring = wiring = infer_wiring(unet, vae, controlnet, task, self.guidance_scale, self.value_range)
        self.mode, self.strength = wiring.mode, checked_strength(task.strength, wiring.mode)
        self.size, self.latent_shape, self.negative_prompt_embeds = wiring.size, wiring.latent_shape, wiring.negative
        scheduler = checked_scheduler(scheduler, steps, sampler.solver)
        computing = checked_computing(unet, compute)
        self.device, self.dtype, self.execution = computing
        self.trained_on: Mapping[str, Any] | None = None
        self.vae: nn.Module = computing.frozen_vae(vae)
        own_control = None if controlnet is None else computing.frozen(controlnet)
        channels = self.latent_shape[0]
        self._networks = PromptedDenoiser(computing.frozen(unet), own_control, channels, self.control_scale).eval()
        self._denoiser = Caller(denoise, self.execution)
        self._schedule = prepare_schedule(
            scheduler, steps, channels=channels, out_channels=channels, device=self.device
        )
        self._edit: Edit | None = None
        if self.strength is not None:
            from_noise = self.mode == "inpaint"
            self._edit = prepare_edit(
                scheduler, steps, self.strength, from_noise=from_noise, channels=channels, device=self.device
            )

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        **settings: Unpack[PromptedSettings],
    ) -> Self:
        """A synthesizer from the folder of a Stable Diffusion or latent consistency pipeline of diffusers.

        Read are ``unet/``, ``vae/``, ``scheduler/`` and, if there, ``controlnet/``: safetensors weights and diffusers'
        own classes only; nothing in the folder is executed. Text encoder and tokenizer are left to `encode_prompts`.
        The safety checker is left out: made for photographs, it blackens whole images without an error.

        Args:
            path: a local folder, or the id of a repository on the Hugging Face hub.
            revision: commit of that repository, 40 hexadecimal digits; a branch or tag could change under your feet.

        The other keywords are those of the constructor; `mode` is by default what the saved pipeline does.

        Raises:
            SynthesizerLoadError: no such folder, another layout, pickled weights, or a class of others than diffusers.
            ConfigurationError: as in the constructor.
        """
        from torchgenaug.synthesizers.diffusion.folder import named_faults
        from torchgenaug.synthesizers.diffusion.layouts import load_stable_diffusion

        with named_faults(path):
            loaded = load_stable_diffusion(path, revision)
            networks = loaded.networks
            if settings.get("mode") is None:
                settings["mode"] = loaded.mode
            return cls(
                networks["unet"],
                loaded.scheduler,
                vae=networks["vae"],
                controlnet=networks.get("controlnet"),
                **settings,
            )

    @property
    def scheduler(self) -> Any:
        """A copy of the scheduler, its timesteps set."""
        return copy.deepcopy(self._schedule.scheduler)

    @cached_property
    def fields(self) -> Mapping[str, FieldSpec]:
        """``image``."""
        shape = (int(self.vae.config.out_channels), *self.size)  # type: ignore[union-attr, arg-type]
        return image_fields(shape, self.value_range, label_channels=0, clip=self.clip)

    @cached_property
    def condition_fields(self) -> Mapping[str, FieldSpec]:
        """What the conditions must hold."""
        return self._wiring.fields

    @property
    def settings(self) -> dict[str, Any]:
        """The sampling settings, JSON-ready: the constructor's arguments apart from networks, scheduler and tensors."""
        own = {"control_scale": self.control_scale, "strength": self.strength}
        return {**self._wiring.settings, **own, **shared_settings(self)}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over weights (in the compute dtype), configurations and settings; not the device, nor CUDA graphs."""
        negative = None if self.negative_prompt_embeds is None else self.negative_prompt_embeds.tolist()
        return diffusion_digest(
            {"family": self.family, "negative": negative}, self.settings, self.scheduler, self._parts()
        )

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One sample per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: ``prompt_embeds`` and what else `condition_fields` names.

        Returns:
            ``image``, batch axis first, on `device`.

        Raises:
            ConfigurationError: no seeds, or conditions that are missing or do not fit.
            BadSampleError: NaN or Inf that `clip` would hide.
        """
        check_seeds(seeds)
        noise = seeding.normal(seeding.derive(list(seeds), seeding.NOISE), self.latent_shape, device=self.device)
        # no_grad rather than inference_mode: samples are ordinary tensors, usable in training.
        with torch.no_grad():
            conditioning = self._wiring.inputs(conditions, len(seeds), self.vae, self.device, self.dtype)
            predict = partial(self._predict, conditioning)
            if self._edit is None or conditioning.source is None:
                latents = run_schedule(self._schedule, predict, noise, seeds)
            else:
                latents = run_edit(self._edit, predict, conditioning.source, noise, seeds, conditioning.mask)
            images = decoded(latents, self.vae)
            return to_image_fields(images, seeds, self.value_range, label_channels=0, clip=self.clip)

    def stored(self) -> Stored:
        """Settings, networks and the negative prompt, as `save_synthesizer` writes them."""
        tensors = {} if self.negative_prompt_embeds is None else {"negative_prompt_embeds": self.negative_prompt_embeds}
        return stored_parts(self.settings, self._schedule.scheduler, self._parts(), tensors)

    @classmethod
    def from_stored(cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None) -> Self:
        """The synthesizer that `stored` describes; see `Storable.from_stored`."""
        arguments = stored.arguments(device, dtype)
        control = arguments.pop("control")
        return cls(
            stored.networks["unet"],
            scheduler_from_config(arguments.pop("scheduler"), "settings of the saved synthesizer"),
            vae=stored.networks["vae"],
            controlnet=stored.networks.get("controlnet"),
            control=None if control is None else {name: FieldSpec.from_json(spec) for name, spec in control.items()},
            negative_prompt_embeds=stored.tensors.get("negative_prompt_embeds"),
            **arguments,
        )

    def _parts(self) -> dict[str, nn.Module]:
        control = self._networks.controlnet
        return {"unet": self._networks.unet, "vae": self.vae} | ({} if control is None else {"controlnet": control})

    def _predict(self, conditioning: ConditionInputs, latents: Tensor, timestep: Tensor) -> Tensor:
        inputs = conditioning.joined(latents.to(self.dtype))
        output = self._denoiser(
            self._networks, inputs, timestep, conditioning.embeddings, conditioning.guidance, conditioning.control
        )
        return conditioning.predicted(in_float32(output))

    def __repr__(self) -> str:
        scheduler = type(self._schedule.scheduler).__name__
        control = "" if self._wiring.control is None else f", control={self._wiring.control[0]!r}"
        return (
            f"StableDiffusionSynthesizer({self.fields['image'].shape}, {scheduler}, steps={self.steps}, "
            f"mode={self.mode!r}{control}, {self.device})"
        )
