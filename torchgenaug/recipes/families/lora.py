"""``lora``: a pretrained Stable-Diffusion-type pipeline is fitted to few images by low-rank adapters of its attention.

Hu et al. (2022), "LoRA: Low-rank adaptation of large language models"; for medical images Chambon et al. (2022),
"RoentGen: vision-language foundation model for chest X-ray generation", trained whole. Autoencoder and text encoder
stay as they are. Each class has the prompt that the setting `prompt` makes of its name. The adapters are peft's; in the
saved synthesizer they are merged into the weights, and nothing of peft is needed to sample.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer

from torchgenaug.bare_names import bare_name
from torchgenaug.contracts import Synthesizer
from torchgenaug.errors import ConfigurationError, missing_extra
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.recipes.settings import Setting
from torchgenaug.recipes.start import REFIT
from torchgenaug.synthesizers import (
    ClassPromptSynthesizer,
    StableDiffusionSynthesizer,
    encode_prompts,
    load_synthesizer,
    merge_lora,
)
from torchgenaug.synthesizers.diffusion.latents import from_vae_scale
from torchgenaug.synthesizers.diffusion.layouts import Loaded, load_stable_diffusion
from torchgenaug.types import Batch

FAMILIES = {
    "lora": Family(
        "a pretrained Stable Diffusion pipeline fitted to few images by low-rank adapters (Hu 2022): --from PIPELINE",
        steps=1000,
        batch_size=4,
        conditions=(None, "label"),
        pretrained=True,
        settings={
            "rank": Setting(8, "rank of the adapters", low=1),
            "prompt": Setting("a medical image of {class}", "text of every class; {class} becomes its name"),
        },
    )
}
_PIPELINE = (
    "Adapters belong to a network with prompts: give a folder that diffusers wrote, with unet/, vae/, text_encoder/, "
    "tokenizer/ and scheduler/."
)
_LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]
_PROMPT_DROPOUT = 0.1


def base_fingerprint(folder: str) -> str:
    """Identifies the pipeline in `folder`: its networks and noise levels.

    Raises:
        ConfigurationError: a synthesizer.
        SynthesizerLoadError: no pipeline there.
    """
    loaded = _pipeline(folder)
    return StableDiffusionSynthesizer(
        loaded.networks["unet"], loaded.scheduler, vae=loaded.networks["vae"], steps=1, value_range=(-1, 1)
    ).fingerprint


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for `data` and the pipeline that ``options.start`` names.

    Raises:
        ConfigurationError: a synthesizer or a pipeline of another kind, or images of other channels.
        SynthesizerLoadError: no pipeline there.
        MissingExtraError: peft or transformers is not installed.
    """
    return LowRankAdapters(_pipeline(options.start or ""), data, options)


def _pipeline(folder: str) -> Loaded:
    """The pipeline in `folder`; a synthesizer there is refused."""
    if (Path(folder) / "synthesizer.json").is_file() and not (Path(folder) / "vae").is_dir():
        synthesizer = load_synthesizer(folder)
        fitted = isinstance(synthesizer, ClassPromptSynthesizer)
        raise ConfigurationError(
            f"`start` must be the folder of a pretrained Stable-Diffusion-type pipeline for lora, got {folder!r}, a "
            f"synthesizer of the kind {synthesizer.family!r}. {REFIT if fitted else _PIPELINE}"
        )
    return load_stable_diffusion(folder)


class Adapters(nn.Module):
    """The matrices of the adapters, by layer; the network that has them is not part of it."""

    def __init__(self, matrices: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        # Names of parameters must not hold dots.
        self.names = list(matrices)
        self.matrices = nn.ParameterList(matrices.values())

    def tensors(self) -> dict[str, Tensor]:
        """Layer and matrix → tensor, as `merge_lora` takes them."""
        return {name: matrix.detach().cpu() for name, matrix in zip(self.names, self.matrices, strict=True)}


class LowRankAdapters:
    """A frozen pipeline, and the adapters of its UNet's attention, which alone are trained."""

    averaged = frozenset({"adapters"})

    def __init__(self, base: Loaded, data: TrainingData, options: Options) -> None:
        self.base, self.data, self.options = base, data, options
        vae: Any = base.networks["vae"]
        self.grey = data.image_shape[0] == 1 and vae.config.in_channels == 3
        if base.mode != "text" or not (self.grey or data.image_shape[0] == vae.config.in_channels):
            raise ConfigurationError(
                f"`start` must be a text-to-image pipeline for images of {data.image_shape[0]} channels, got mode "
                f"{base.mode!r} and {vae.config.in_channels} channels in {options.start!r}. Choose another pipeline."
            )
        for name in ("width", "latent_dim"):
            if getattr(options, name) is not None:
                raise ConfigurationError(
                    f"`{name}` must be left out for lora, got {getattr(options, name)!r}. The pipeline decides it. "
                    "For larger adapters: --set rank=16"
                )
        self.rank = int(options.settings["rank"])
        self.texts = _texts(data, options)
        encoded = encode_prompts(options.start or "", [*self.texts, ""])
        self.embeddings, self.nothing = encoded[:-1], encoded[-1]
        self.unet, matrices = _adapted(base.networks["unet"], self.rank)
        self.vae = copy.deepcopy(vae).eval().requires_grad_(False)
        self.networks: Mapping[str, nn.Module] = {"adapters": Adapters(matrices)}
        self.alphas: Tensor = base.scheduler.alphas_cumprod
        self.synthesizer(self.networks)  # sizes that the pipeline cannot make are refused now

    def optimizers(self) -> dict[str, Optimizer]:
        """AdamW at the rate of diffusers' training script for LoRA."""
        parameters = list(self.networks["adapters"].parameters())
        for network in (self.unet, self.vae):
            nn.Module.to(network, parameters[0].device)
        return {"adapters": AdamW(parameters, lr=self.options.learning_rate or 1e-4, weight_decay=0.01)}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """One denoising step of the latents at a random time, on the prompt of the class."""
        images = batch["image"].expand(-1, 3, -1, -1) if self.grey else batch["image"]
        with torch.no_grad():
            clean = from_vae_scale(self.vae.encode(images).latent_dist.sample().float(), self.vae)
        device, count = clean.device, len(clean)
        time = torch.randint(len(self.alphas), (count,), device=device)
        alpha = self.alphas.to(device)[time].view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        wanted = noise
        if self.base.scheduler.config.prediction_type == "v_prediction":
            wanted = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        made = self.unet(noisy, time, encoder_hidden_states=self._prompts(batch, device)).sample
        loss = functional.mse_loss(made.float(), wanted)
        update({"adapters": loss})
        return {"denoising": loss}

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> Synthesizer:
        """The pipeline with the adapters merged into its UNet, by classes."""
        adapters: Any = networks["adapters"]
        model = StableDiffusionSynthesizer(
            merge_lora(self.base.networks["unet"], adapters.tensors()),
            self.base.scheduler,
            vae=self.base.networks["vae"],
            size=self.data.image_shape[1:],
            negative_prompt_embeds=None if self.options.guidance_scale is None else self.nothing,
            value_range=self.data.fields["image"].value_range or (0.0, 1.0),
            steps=self.options.sampling_steps or 25,
            guidance_scale=self.options.guidance_scale,
            clip=True,
        )
        by_class = self.options.condition == "label"
        return ClassPromptSynthesizer(model, self.texts, self.embeddings, classes=by_class, grey=self.grey)

    def _prompts(self, batch: Batch, device: torch.device) -> Tensor:
        """The embedding of each sample's prompt; one in ten is that of the empty text, for guidance."""
        count = len(batch["image"])
        classes = batch["label"].cpu() if self.options.condition == "label" else torch.zeros(count, dtype=torch.int64)
        dropped = (torch.rand(count) < _PROMPT_DROPOUT)[:, None, None]
        return torch.where(dropped, self.nothing, self.embeddings[classes]).to(device)


def _texts(data: TrainingData, options: Options) -> list[str]:
    """The prompt of each class, or the one prompt."""
    prompt = str(options.settings["prompt"])
    if options.condition != "label":
        return [prompt.replace("{class}", bare_name(data.name))]
    count = data.num_classes or 0
    names = data.class_names or tuple(f"class {number}" for number in range(count))
    return [prompt.replace("{class}", name) for name in names]


def _adapted(unet: nn.Module, rank: int) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A frozen copy with adapters that begin at nothing, and their matrices by name."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise missing_extra("The family 'lora'", package="peft", extra="lora") from error
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=_LAYERS)
    adapted: Any = inject_adapter_in_model(config, copy.deepcopy(unet).requires_grad_(False))
    matrices = {
        name.replace(".default", ""): parameter for name, parameter in adapted.named_parameters() if "lora_" in name
    }
    return adapted.train(), matrices
