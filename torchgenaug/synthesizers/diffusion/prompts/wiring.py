"""Which conditions a model on prompts has, and how they reach its networks at each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.synthesizers.diffusion.latents import encoded
from torchgenaug.synthesizers.diffusion.prompts import conditions as conditions_of
from torchgenaug.synthesizers.diffusion.prompts import networks
from torchgenaug.synthesizers.diffusion.prompts.task import PromptedTask
from torchgenaug.synthesizers.parts.guidance import guided, is_guided, twice
from torchgenaug.synthesizers.parts.image_conditions import given_image
from torchgenaug.types import Batch, FieldSpec


class ConditionInputs(NamedTuple):
    """What the networks get apart from noisy latents and time, in the compute dtype and doubled for guidance.

    Attributes:
        embeddings: (batch, tokens, dim) of the prompts.
        guidance: (batch, size) of the scale, for a network distilled with guidance.
        control: (batch, channels, *size), for the ControlNet.
        further: (batch, 1 + channels, *latent size): mask and masked image, concatenated to the latents.
        source: (batch, *latent shape) float32, not doubled: the latents that sampling starts from.
        mask: (batch, 1, *latent size) float32, not doubled: 0 where those latents are put back in every step.
        scale: weight of guidance, for which the networks are called twice; None where they are not.
    """

    embeddings: Tensor
    guidance: Tensor | None
    control: Tensor | None
    further: Tensor | None
    source: Tensor | None
    mask: Tensor | None
    scale: float | None

    def joined(self, latents: Tensor) -> Tensor:
        """What the UNet is called with for (batch, channels, *latent size) noisy latents."""
        inputs = latents if self.scale is None else twice(latents)
        return inputs if self.further is None else torch.cat([inputs, self.further], 1)

    def predicted(self, output: Tensor) -> Tensor:
        """(batch, channels, *latent size) of what the UNet returned."""
        return output if self.scale is None else guided(output, self.scale)


@dataclass(frozen=True, slots=True)
class Wiring:
    """The conditions of a model, and where they go.

    Attributes:
        mode: "text", "image" or "inpaint".
        size: (height, width) of the images.
        latent_shape: (channels, height, width) of what is denoised.
        source: spec of the condition ``source``, which mode "text" does not have.
        control: name and spec of what the ControlNet reads, None without one.
        control_channels: channels of the image that the ControlNet reads.
        reads_mask: whether the UNet takes mask and masked image itself.
        embedding_size: length of one token's embedding.
        negative: (tokens, dim) of the negative prompt, float32 on the CPU, None where none was given.
        scale: weight of guidance, for which the networks are called twice; None where they are not.
        guidance: (1, size) of the scale, for a network distilled with guidance.
    """

    mode: str
    size: tuple[int, int]
    latent_shape: tuple[int, int, int]
    source: FieldSpec
    control: tuple[str, FieldSpec] | None
    control_channels: int
    reads_mask: bool
    embedding_size: int
    negative: Tensor | None
    scale: float | None
    guidance: Tensor | None

    @property
    def fields(self) -> Mapping[str, FieldSpec]:
        """What the conditions must hold. ``prompt_embeds`` has 77 tokens there where that is open."""
        tokens = 77 if self.negative is None else len(self.negative)
        fields = {"prompt_embeds": FieldSpec((tokens, self.embedding_size), kind="scalar")}
        if self.mode != "text":
            fields["source"] = self.source
        if self.mode == "inpaint":
            fields["mask"] = FieldSpec((1, *self.size), torch.int64, kind="label_map", value_range=(0, 1))
        return fields | ({} if self.control is None else dict([self.control]))

    @property
    def settings(self) -> dict[str, Any]:
        """What the constructor is given of it apart from tensors, JSON-ready."""
        control = None if self.control is None else {self.control[0]: self.control[1].to_json()}
        return {"mode": self.mode, "size": list(self.size), "control": control}

    def inputs(
        self, conditions: Batch | None, count: int, vae: nn.Module, device: torch.device, dtype: torch.dtype
    ) -> ConditionInputs:
        """The conditions of `count` samples in the forms that the networks take.

        Args:
            conditions: what `synthesize` was given.
            count: number of samples.
            vae: encodes source and masked image.
            device: of the networks.
            dtype: of the networks.

        Raises:
            ConfigurationError: a condition that is missing, or does not fit.
        """
        source, mask = self._region(conditions, count, device)
        small = None if mask is None else functional.interpolate(mask, self.latent_shape[1:])
        negative = None if self.scale is None else self.negative
        tokens = None if negative is None else len(negative)
        prompts = conditions_of.given_prompts(conditions, count, self.embedding_size, tokens).to(device)
        control = further = None
        if self.control is not None:
            name, spec = self.control
            control = conditions_of.given_control(name, conditions, count, spec, self.control_channels)
        if self.reads_mask and source is not None and mask is not None and small is not None:
            further = torch.cat([small, encoded(source * (1 - mask), vae)], 1)
            small = None  # such a network paints what fits: nothing is put back
        if negative is not None:
            prompts = torch.cat([prompts, negative.to(prompts).expand(count, -1, -1)])

        def ready(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            value = value.to(device, dtype)
            return value if self.scale is None else twice(value)

        guidance = None if self.guidance is None else self.guidance.to(device, dtype).expand(count, -1)
        start = None if source is None else encoded(source, vae)
        return ConditionInputs(prompts.to(dtype), guidance, ready(control), ready(further), start, small, self.scale)

    def _region(
        self, conditions: Batch | None, count: int, device: torch.device
    ) -> tuple[Tensor | None, Tensor | None]:
        """(source in [-1, 1], mask) on the device, None where the mode has none."""
        if self.mode == "text":
            return None, None
        given = given_image("source", conditions, count, self.source).to(device)
        low, high = self.source.value_range or (-1.0, 1.0)
        source = given.float().mul(2 / (high - low)).sub_((high + low) / (high - low))
        if self.mode == "image":
            return source, None
        return source, conditions_of.given_mask(conditions, count, self.size).to(device, torch.float32)


def infer_wiring(
    unet: nn.Module,
    vae: nn.Module,
    controlnet: nn.Module | None,
    task: PromptedTask,
    guidance_scale: float | None,
    value_range: tuple[float, float],
) -> Wiring:
    """Infers from the networks and the task which conditions are needed, and which network takes each.

    Args:
        unet: the denoiser.
        vae: its autoencoder.
        controlnet: what steers it, or None.
        task: what the model is used for.
        guidance_scale: weight of guidance, checked.
        value_range: of source images, checked.

    Raises:
        ConfigurationError: networks that do not fit each other, the mode or the size, or a condition that none takes.
    """
    channels = networks.check_unet(unet, vae)
    mode = networks.checked_mode(task.mode or "text", unet, channels)
    image_size, latent_size = networks.checked_sizes(unet, vae, task.size)
    if controlnet is not None:
        networks.check_controlnet(controlnet, unet, latent_size, image_size, channels)
    config: Any = unet.config
    vae_config: Any = vae.config
    control_config: Any = {} if controlnet is None else controlnet.config
    distilled: int | None = config.time_cond_proj_dim
    scale = guidance_scale if distilled is None and is_guided(guidance_scale) else None
    embedding_size = networks.embedding_size(unet)
    return Wiring(
        mode=mode,
        size=image_size,
        latent_shape=(channels, *latent_size),
        source=FieldSpec((int(vae_config.in_channels), *image_size), value_range=value_range),
        control=networks.checked_control(task.control, controlnet, image_size, mode),
        control_channels=int(control_config.get("conditioning_channels", 0)),
        reads_mask=bool(config.in_channels > channels),
        embedding_size=embedding_size,
        negative=conditions_of.checked_negative(task.negative_prompt_embeds, embedding_size, guided=scale is not None),
        scale=scale,
        guidance=None if distilled is None else networks.guidance_embedding(guidance_scale or 1.0, distilled),
    )
