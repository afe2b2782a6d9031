"""`StableDiffusionSynthesizer`: latent diffusion on prompts, from noise, from a real image, or into a part of one."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers import networks, pipelines
from torchgenaug.synthesizers import prompted_conditions as conditions_of
from torchgenaug.synthesizers import prompted_networks as prompted
from torchgenaug.synthesizers.checks import checked_dtype, checked_value_range
from torchgenaug.synthesizers.editing import Edit, prepare_edit, run_edit
from torchgenaug.synthesizers.execution import Caller, checked_execution
from torchgenaug.synthesizers.fingerprints import component_description, settings_digest, weights_digest
from torchgenaug.synthesizers.latents import checked_guidance, decoded, encoded
from torchgenaug.synthesizers.outputs import image_fields, to_image_fields
from torchgenaug.synthesizers.sampling import prepare_schedule, run_schedule
from torchgenaug.synthesizers.solvers import with_solver
from torchgenaug.synthesizers.stored import Stored
from torchgenaug.types import Batch, FieldSpec

_STRENGTHS = {"image": 0.8, "inpaint": 1.0}


class _Asked(NamedTuple):
    """What the networks get beside noisy latents and time, in the compute dtype and doubled for guidance."""

    embeddings: Tensor
    control: Tensor | None
    further: Tensor | None  # concatenated to the latents: mask and masked image


class StableDiffusionSynthesizer:
    """Samples a `diffusers.UNet2DConditionModel` behind an `AutoencoderKL`, from one seed and prompt per sample.

    Deterministic, picklable, and safe in threads. The networks are **copied** (eval mode, no gradients). For the same
    noise the result is that of diffusers' Stable Diffusion pipelines before they clamp, with two differences: a source
    image is encoded to the mean of its posterior, not to a draw, and every scheduler is scaled as it must be.

    **Conditions.** ``prompt_embeds``: (batch, tokens, dim) floating point, from `Prompts` and `encode_prompts`. In mode
    "image" (SDEdit) also ``source``: a real image in `value_range`, of which `strength` says how much goes. In mode
    "inpaint" ``source`` and ``mask``: (batch, 1, height, width), 1 where the model paints; a UNet of 2 c + 1 input
    channels reads mask and masked image itself, one of c has the known region put back in every step, in latents, so
    that around the mask the source comes back as the autoencoder sees it, not bit by bit. With `controlnet` a control
    image or class mask.

    Args:
        unet: denoiser of (batch, channels, height, width) on prompts. One that was distilled with guidance
            (``time_cond_proj_dim``) is told `guidance_scale`, and is not called twice.
        scheduler: any scheduler of diffusers; only its class and configuration are used.
        vae: `AutoencoderKL`, of images of one, three or any number of channels.
        controlnet: `ControlNetModel` that belongs to `unet`, in any mode.
        control: name → spec of the condition that it reads; default: ``source`` (in other modes than "text":
            ``control``), an image in [0, 1]. A label map of n classes comes one-hot where the network has n channels,
            else as class / (n - 1). An image of one channel is repeated.
        control_scale: what the ControlNet's residuals are multiplied with.
        mode: "text", "image" or "inpaint".
        strength: of modes "image" (default 0.8) and "inpaint" (default 1), (0, 1]: the last ``int(steps * strength)``
            steps are done. Inpainting at 1 starts at noise alone.
        size: (height, width) of the images; default: what `unet` was trained on.
        steps: inference steps at strength 1. Some schedulers (Heun, PNDM) call the network more often.
        solver: walk the scheduler's noise levels by another solver: see `DiffusersSynthesizer`.
        guidance_scale: weight of classifier-free guidance, s in ``e = e_null + s (e_prompt - e_null)``: 1 + w of Ho and
            Salimans (2022), equation 6. 1 or None: no guidance.
        negative_prompt_embeds: (tokens, dim) of the prompt that guidance leads away from: that of the empty text.
        value_range: intensities that the model's -1 and 1 stand for.
        clip: clamp the image to `value_range`; otherwise it may overshoot by a quarter of the range's width.
        device: where to compute and where samples are made; default: where the given `unet` is.
        dtype: dtype of weights and activations, default float32. Latents between the steps and samples are float32.
        channels_last: memory layout of the weights of convolutions. None: channels last on a CPU.
        compile: compile the networks with torch.compile, once for every batch size.
        cuda_graph: replay the networks as a CUDA graph, captured once for every batch size.

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
        control: Mapping[str, FieldSpec] | None = None,
        control_scale: float = 1.0,
        mode: str = "text",
        strength: float | None = None,
        size: Sequence[int] | None = None,
        steps: int = 50,
        solver: str | None = None,
        guidance_scale: float | None = None,
        negative_prompt_embeds: Tensor | None = None,
        value_range: tuple[float, float],
        clip: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool | None = None,
        compile: bool | str = False,  # noqa: A002 (the name that users know from torch.compile)
        cuda_graph: bool = False,
    ) -> None:
        channels = prompted.check_unet(unet, vae)
        self.mode = prompted.checked_mode(mode, unet, channels)
        self.strength = _checked_strength(strength, mode)
        networks.check_scheduler(scheduler, steps)
        scheduler = with_solver(scheduler, solver, steps)
        self.size, latent_size = prompted.checked_sizes(unet, vae, size)
        self.latent_shape = (channels, *latent_size)
        if controlnet is not None:
            prompted.check_controlnet(controlnet, unet, latent_size, self.size, channels)
        self._control = prompted.checked_control(control, controlnet, self.size, mode)
        self.control_scale = float(control_scale)
        self.value_range = checked_value_range(value_range)
        self.steps, self.clip, self.guidance_scale = steps, bool(clip), checked_guidance(guidance_scale)
        config: Any = unet.config
        self._embedding_size = prompted.embedding_size(unet)
        self._distilled: int | None = config.time_cond_proj_dim
        self._guided = self._distilled is None and self.guidance_scale not in (None, 1.0)
        self.negative_prompt_embeds = conditions_of.checked_negative(
            negative_prompt_embeds, self._embedding_size, self._guided
        )
        self.dtype = checked_dtype(dtype)
        self.device = next(unet.parameters()).device if device is None else torch.device(device)
        self.trained_on: Mapping[str, Any] | None = None
        self.execution = checked_execution(channels_last, compile, cuda_graph, self.device)
        frozen = partial(networks.frozen_copy, device=self.device, channels_last=channels_last)
        self.vae = frozen(vae, dtype=networks.vae_dtype(vae, self.dtype))
        own_control = None if controlnet is None else frozen(controlnet, dtype=self.dtype)
        self._networks = prompted.PromptedDenoiser(
            frozen(unet, dtype=self.dtype), own_control, channels, self.control_scale
        ).eval()
        self._denoiser = Caller(_denoise, self.execution)
        self._schedule = prepare_schedule(
            scheduler, steps, channels=channels, out_channels=channels, device=self.device
        )
        self._edit: Edit | None = None
        if self.strength is not None:
            self._edit = prepare_edit(
                scheduler,
                steps,
                self.strength,
                from_noise=mode == "inpaint",
                channels=channels,
                device=self.device,
            )

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        control: Mapping[str, FieldSpec] | None = None,
        control_scale: float = 1.0,
        mode: str | None = None,
        strength: float | None = None,
        size: Sequence[int] | None = None,
        steps: int = 50,
        solver: str | None = None,
        guidance_scale: float | None = None,
        negative_prompt_embeds: Tensor | None = None,
        value_range: tuple[float, float],
        clip: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool | None = None,
        compile: bool | str = False,  # noqa: A002 (the name that users know from torch.compile)
        cuda_graph: bool = False,
    ) -> Self:
        """A synthesizer from the folder of a Stable Diffusion or latent consistency pipeline of diffusers.

        Read are ``unet/``, ``vae/``, ``scheduler/`` and, if there, ``controlnet/``: safetensors weights and diffusers'
        own classes only; nothing in the folder is executed. Text encoder and tokenizer are left to `encode_prompts`.
        The safety checker is left out: made for photographs, it blackens whole images without an error.

        Args:
            path: a local folder, or the id of a repository on the Hugging Face hub.
            revision: commit of that repository, 40 hexadecimal digits; a branch or tag could change under your feet.
            control: name → spec of the condition that the ControlNet reads; as in the constructor, and so are the
                arguments that follow.
            control_scale: what the ControlNet's residuals are multiplied with.
            mode: "text", "image" or "inpaint"; default: what the saved pipeline does.
            strength: how much of a source image goes.
            size: (height, width) of the images.
            steps: inference steps.
            solver: walk the scheduler's noise levels by another solver.
            guidance_scale: weight of classifier-free guidance.
            negative_prompt_embeds: (tokens, dim) of the empty or negative prompt.
            value_range: intensities that the model's -1 and 1 stand for.
            clip: clamp the image to `value_range`.
            device: where to compute; default: CPU.
            dtype: compute dtype; float32 even for float16 weights unless given.
            channels_last: memory layout of the weights.
            compile: compile the networks.
            cuda_graph: replay the networks as a CUDA graph.

        Raises:
            SynthesizerLoadError: no such folder, another layout, pickled weights, or a class that is not one of
                diffusers' own.
            ConfigurationError: as in the constructor.
        """
        from torchgenaug.synthesizers.layouts import load_stable_diffusion

        loaded = load_stable_diffusion(path, revision)
        return cls(
            loaded.networks["unet"],
            loaded.scheduler,
            vae=loaded.networks["vae"],
            controlnet=loaded.networks.get("controlnet"),
            control=control,
            control_scale=control_scale,
            mode=loaded.mode if mode is None else mode,
            strength=strength,
            size=size,
            steps=steps,
            solver=solver,
            guidance_scale=guidance_scale,
            negative_prompt_embeds=negative_prompt_embeds,
            value_range=value_range,
            clip=clip,
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
    def fields(self) -> Mapping[str, FieldSpec]:
        """``image``."""
        shape = (int(self.vae.config.out_channels), *self.size)  # type: ignore[union-attr, arg-type]
        return image_fields(shape, self.value_range, label_channels=0, clip=self.clip)

    @cached_property
    def condition_fields(self) -> Mapping[str, FieldSpec]:
        """What the conditions must hold."""
        tokens = 77 if self.negative_prompt_embeds is None else len(self.negative_prompt_embeds)
        fields = {"prompt_embeds": FieldSpec((tokens, self._embedding_size), kind="scalar")}
        if self.mode != "text":
            fields["source"] = self._source
        if self.mode == "inpaint":
            fields["mask"] = FieldSpec((1, *self.size), torch.int64, kind="label_map", value_range=(0, 1))
        return fields | ({} if self._control is None else dict([self._control]))

    @property
    def settings(self) -> dict[str, Any]:
        """The sampling settings, JSON-ready: the constructor's arguments beside networks, scheduler and tensors."""
        return {
            "control": None if self._control is None else {self._control[0]: self._control[1].to_json()},
            "control_scale": self.control_scale,
            "mode": self.mode,
            "strength": self.strength,
            "size": list(self.size),
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "value_range": list(self.value_range),
            "clip": self.clip,
            "dtype": str(self.dtype).removeprefix("torch."),
            **self.execution.settings,
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over weights (in the compute dtype), configurations and settings; not the device, nor CUDA graphs."""
        settings = {name: value for name, value in self.settings.items() if name != "cuda_graph"}
        negative = None if self.negative_prompt_embeds is None else self.negative_prompt_embeds.tolist()
        components = {"scheduler": component_description(self._schedule.scheduler)}
        for name, network in self._parts().items():
            components[name] = component_description(network) | {"weights": weights_digest(network)}
        return settings_digest({"family": self.family, "settings": settings, "negative": negative} | components)

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
        if len(seeds) == 0:
            raise ConfigurationError("`seeds` must hold at least one seed, got none.")
        noise = seeding.normal(seeding.derive(list(seeds), seeding.NOISE), self.latent_shape, device=self.device)
        # no_grad rather than inference_mode: samples are ordinary tensors, usable in training.
        with torch.no_grad():
            source, mask = self._given_region(conditions, len(seeds))
            predict = partial(self._predict, self._asked(conditions, len(seeds), source, mask))
            if self._edit is None or source is None:
                latents = run_schedule(self._schedule, predict, noise, seeds)
            else:
                small = None if mask is None else functional.interpolate(mask, self.latent_shape[1:])
                # A network that reads the mask itself paints what fits; nothing is put back.
                blended = None if self._reads_mask else small
                latents = run_edit(self._edit, predict, encoded(source, self.vae), noise, seeds, blended)
            return to_image_fields(
                decoded(latents, self.vae), seeds, self.value_range, label_channels=0, clip=self.clip
            )

    def stored(self) -> Stored:
        """Settings, networks and the negative prompt, as `save_synthesizer` writes them."""
        scheduler = json.loads(self._schedule.scheduler.to_json_string())
        negative = self.negative_prompt_embeds
        tensors = {} if negative is None else {"negative_prompt_embeds": negative}
        return Stored(self.settings | {"scheduler": scheduler}, self._parts(), tensors)

    @classmethod
    def from_stored(cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None) -> Self:
        """The synthesizer that `stored` describes; see `Storable.from_stored`."""
        settings = dict(stored.settings)
        saved_dtype = getattr(torch, settings.pop("dtype"))
        control = settings.pop("control")
        if device.type != "cuda":
            settings.pop("cuda_graph", None)  # it changes no sample, and other devices have none
        return cls(
            stored.networks["unet"],
            pipelines.scheduler_from_config(settings.pop("scheduler"), "settings of the saved synthesizer"),
            vae=stored.networks["vae"],
            controlnet=stored.networks.get("controlnet"),
            control=None if control is None else {name: FieldSpec.from_json(spec) for name, spec in control.items()},
            negative_prompt_embeds=stored.tensors.get("negative_prompt_embeds"),
            device=device,
            dtype=saved_dtype if dtype is None else dtype,
            **settings,
        )

    @property
    def _source(self) -> FieldSpec:
        channels = int(self.vae.config.in_channels)  # type: ignore[union-attr, arg-type]
        return FieldSpec((channels, *self.size), value_range=self.value_range)

    @property
    def _reads_mask(self) -> bool:
        wanted: Any = self._networks.unet.config
        return bool(wanted.in_channels > self.latent_shape[0])

    def _parts(self) -> dict[str, nn.Module]:
        control = self._networks.controlnet
        return {"unet": self._networks.unet, "vae": self.vae} | ({} if control is None else {"controlnet": control})

    def _given_region(self, conditions: Batch | None, count: int) -> tuple[Tensor | None, Tensor | None]:
        """(source in [-1, 1], mask) on the device, None where the mode has none."""
        if self.mode == "text":
            return None, None
        given = conditions_of.given_image("source", conditions, count, self._source).to(self.device)
        low, high = self.value_range
        source = given.float().mul(2 / (high - low)).sub_((high + low) / (high - low))
        if self.mode == "image":
            return source, None
        return source, conditions_of.given_mask(conditions, count, self.size).to(self.device, torch.float32)

    def _asked(self, conditions: Batch | None, count: int, source: Tensor | None, mask: Tensor | None) -> _Asked:
        negative = self.negative_prompt_embeds
        tokens = len(negative) if self._guided and negative is not None else None
        prompts = conditions_of.given_prompts(conditions, count, self._embedding_size, tokens).to(self.device)
        control = further = None
        if self._control is not None:
            wanted: Any = self._networks.controlnet.config  # type: ignore[union-attr]
            name, spec = self._control
            control = conditions_of.given_control(name, conditions, count, spec, int(wanted.conditioning_channels))
        if self._reads_mask and source is not None and mask is not None:
            small = functional.interpolate(mask, self.latent_shape[1:])
            further = torch.cat([small, encoded(source * (1 - mask), self.vae)], 1)
        if self._guided and negative is not None:
            prompts = torch.cat([prompts, negative.to(prompts).expand(count, -1, -1)])
        ready = [None if value is None else value.to(self.device, self.dtype) for value in (control, further)]
        if self._guided:
            ready = [None if value is None else torch.cat([value, value]) for value in ready]
        return _Asked(prompts.to(self.dtype), *ready)

    def _predict(self, asked: _Asked, latents: Tensor, timestep: Tensor) -> Tensor:
        inputs = latents.to(self.dtype)
        if self._guided:
            inputs = torch.cat([inputs, inputs])
        if asked.further is not None:
            inputs = torch.cat([inputs, asked.further], 1)
        guidance = None
        if self._distilled is not None:
            guidance = prompted.guidance_embedding(self.guidance_scale or 1.0, self._distilled)
            guidance = guidance.to(self.device, self.dtype).expand(len(inputs), -1)
        output = self._denoiser(self._networks, inputs, timestep, asked.embeddings, guidance, asked.control).float()
        if not self._guided:
            return output
        with_prompt, without = output.chunk(2)
        return torch.lerp(without, with_prompt, float(self.guidance_scale or 0))

    def __repr__(self) -> str:
        scheduler = type(self._schedule.scheduler).__name__
        control = "" if self._control is None else f", control={self._control[0]!r}"
        return (
            f"StableDiffusionSynthesizer({self.fields['image'].shape}, {scheduler}, steps={self.steps}, "
            f"mode={self.mode!r}{control}, {self.device})"
        )


def _denoise(
    denoiser: nn.Module,
    latents: Tensor,
    timestep: Tensor,
    embeddings: Tensor,
    guidance: Tensor | None,
    control: Tensor | None,
) -> Tensor:
    output: Tensor = denoiser(latents, timestep, embeddings, guidance, control)
    return output


def _checked_strength(strength: float | None, mode: str) -> float | None:
    if mode == "text":
        if strength is not None:
            raise ConfigurationError(
                f"`strength` must be None in mode 'text', got {strength!r}. It says how much of a source image goes. "
                "Use mode='image'."
            )
        return None
    if strength is None:
        return _STRENGTHS[mode]
    number = isinstance(strength, int | float) and not isinstance(strength, bool)
    if not number or not 0 < strength <= 1:
        raise ConfigurationError(
            f"`strength` must be in (0, 1], got {strength!r}. Near 0 the source image stays, at 1 nearly nothing of it."
        )
    return float(strength)
