"""`PromptedTask`: what a model on prompts is used for, as one value or as single keywords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from torchgenaug.synthesizers.parts.options import DiffusionOptions, DiffusionSettings
from torchgenaug.types import FieldSpec


@dataclass(frozen=True, slots=True)
class PromptedTask:
    """The keywords of `StableDiffusionSynthesizer` that say where sampling starts and what steers it.

    Attributes:
        mode: "text", "image" (or "img2img") or "inpaint"; None: "text".
        strength: fraction of the noise schedule applied to the source image; None: the default of the mode.
        size: (height, width) of the images; None: what the network was trained on.
        negative_prompt_embeds: (tokens, dim) of the prompt that guidance leads away from.
        control: name → spec of the condition that the ControlNet reads.
        control_scale: what the ControlNet's residuals are multiplied with.
    """

    mode: str | None = None
    strength: float | None = None
    size: Sequence[int] | None = None
    negative_prompt_embeds: Tensor | None = None
    control: Mapping[str, FieldSpec] | None = None
    control_scale: float = 1.0


class PromptedOptions(DiffusionOptions, total=False):
    """The attributes of `PromptedTask`, `DiffusionSampler` and `Compute` as keywords."""

    mode: str | None
    strength: float | None
    size: Sequence[int] | None
    negative_prompt_embeds: Tensor | None
    control: Mapping[str, FieldSpec] | None
    control_scale: float


class PromptedSettings(PromptedOptions, DiffusionSettings, total=False):
    """What `StableDiffusionSynthesizer.from_pretrained` passes on to the constructor."""
