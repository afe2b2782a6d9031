"""Adapters that turn generative models into pure functions of seeds and conditions.

Each is loaded when it is first named: importing this package imports neither diffusers nor safetensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchgenaug.lazy import lazy_exports

if TYPE_CHECKING:
    from torchgenaug.synthesizers.class_prompts import ClassPromptSynthesizer as ClassPromptSynthesizer
    from torchgenaug.synthesizers.diffusion.dit import DiTSynthesizer as DiTSynthesizer
    from torchgenaug.synthesizers.diffusion.lora import merge_lora as merge_lora
    from torchgenaug.synthesizers.diffusion.prompts.encoding import encode_prompts as encode_prompts
    from torchgenaug.synthesizers.diffusion.stable_diffusion import (
        StableDiffusionSynthesizer as StableDiffusionSynthesizer,
    )
    from torchgenaug.synthesizers.diffusion.unet import DiffusersSynthesizer as DiffusersSynthesizer
    from torchgenaug.synthesizers.edit import DiffusionEditSynthesizer as DiffusionEditSynthesizer
    from torchgenaug.synthesizers.ensemble import EnsembleSynthesizer as EnsembleSynthesizer
    from torchgenaug.synthesizers.function import FunctionSynthesizer as FunctionSynthesizer
    from torchgenaug.synthesizers.labels_to_image import LabelsToImageSynthesizer as LabelsToImageSynthesizer
    from torchgenaug.synthesizers.module.synthesizer import ModuleSynthesizer as ModuleSynthesizer
    from torchgenaug.synthesizers.monai.bundle import load_monai_bundle as load_monai_bundle
    from torchgenaug.synthesizers.monai.synthesizer import MonaiSynthesizer as MonaiSynthesizer
    from torchgenaug.synthesizers.parts.blueprints import build_network as build_network
    from torchgenaug.synthesizers.parts.options import Compute as Compute
    from torchgenaug.synthesizers.parts.options import DiffusionSampler as DiffusionSampler
    from torchgenaug.synthesizers.pythae.fit import fit_latents as fit_latents
    from torchgenaug.synthesizers.pythae.synthesizer import PythaeSynthesizer as PythaeSynthesizer
    from torchgenaug.synthesizers.saving.folder import save_synthesizer as save_synthesizer
    from torchgenaug.synthesizers.saving.load import load_synthesizer as load_synthesizer
    from torchgenaug.synthesizers.saving.load import synthesizer_sha256 as synthesizer_sha256
    from torchgenaug.synthesizers.transformed import TransformedSynthesizer as TransformedSynthesizer
    from torchgenaug.synthesizers.two_stage import TwoStageSynthesizer as TwoStageSynthesizer

_HOMES = {
    "ClassPromptSynthesizer": "class_prompts",
    "Compute": "parts.options",
    "DiffusionSampler": "parts.options",
    "DiTSynthesizer": "diffusion.dit",
    "DiffusersSynthesizer": "diffusion.unet",
    "DiffusionEditSynthesizer": "edit",
    "EnsembleSynthesizer": "ensemble",
    "FunctionSynthesizer": "function",
    "LabelsToImageSynthesizer": "labels_to_image",
    "ModuleSynthesizer": "module.synthesizer",
    "MonaiSynthesizer": "monai.synthesizer",
    "PythaeSynthesizer": "pythae.synthesizer",
    "StableDiffusionSynthesizer": "diffusion.stable_diffusion",
    "TransformedSynthesizer": "transformed",
    "TwoStageSynthesizer": "two_stage",
    "build_network": "parts.blueprints",
    "encode_prompts": "diffusion.prompts.encoding",
    "fit_latents": "pythae.fit",
    "load_monai_bundle": "monai.bundle",
    "load_synthesizer": "saving.load",
    "merge_lora": "diffusion.lora",
    "save_synthesizer": "saving.folder",
    "synthesizer_sha256": "saving.load",
}

__all__ = [
    "ClassPromptSynthesizer",
    "Compute",
    "DiTSynthesizer",
    "DiffusersSynthesizer",
    "DiffusionEditSynthesizer",
    "DiffusionSampler",
    "EnsembleSynthesizer",
    "FunctionSynthesizer",
    "LabelsToImageSynthesizer",
    "ModuleSynthesizer",
    "MonaiSynthesizer",
    "PythaeSynthesizer",
    "StableDiffusionSynthesizer",
    "TransformedSynthesizer",
    "TwoStageSynthesizer",
    "build_network",
    "encode_prompts",
    "fit_latents",
    "load_monai_bundle",
    "load_synthesizer",
    "merge_lora",
    "save_synthesizer",
    "synthesizer_sha256",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
