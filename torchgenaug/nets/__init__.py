"""Networks of our own, where neither diffusers nor MONAI nor pythae has them; `build_network` makes them from JSON.

Each is imported when it is first named: those of pythae need the extra ``vae``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchgenaug.lazy import lazy_exports

if TYPE_CHECKING:
    from torchgenaug.nets.adversarial_steps import AdversarialDenoiser as AdversarialDenoiser
    from torchgenaug.nets.code_latents import CodeLatents as CodeLatents
    from torchgenaug.nets.critic import Critic as Critic
    from torchgenaug.nets.deformation import DeformationUNet as DeformationUNet
    from torchgenaug.nets.filling import ModalityUNet as ModalityUNet
    from torchgenaug.nets.flow_latents import FlowLatents as FlowLatents
    from torchgenaug.nets.flow_latents import SecondStageLatents as SecondStageLatents
    from torchgenaug.nets.gan import DCGANGenerator as DCGANGenerator
    from torchgenaug.nets.gated import GatedUNet as GatedUNet
    from torchgenaug.nets.hierarchical_codes import HierarchicalSampler as HierarchicalSampler
    from torchgenaug.nets.intensity_table import IntensityTable as IntensityTable
    from torchgenaug.nets.latents import BallLatents as BallLatents
    from torchgenaug.nets.latents import MixtureLatents as MixtureLatents
    from torchgenaug.nets.latents import NormalLatents as NormalLatents
    from torchgenaug.nets.latents import SphereLatents as SphereLatents
    from torchgenaug.nets.manifold_latents import ManifoldLatents as ManifoldLatents
    from torchgenaug.nets.one_pass import OnePassNetwork as OnePassNetwork
    from torchgenaug.nets.pggan import PGGANCritic as PGGANCritic
    from torchgenaug.nets.pggan import PGGANGenerator as PGGANGenerator
    from torchgenaug.nets.pythae import PythaeNetwork as PythaeNetwork
    from torchgenaug.nets.score_sde import ScoreSampler as ScoreSampler
    from torchgenaug.nets.slice_sampler import SliceSampler as SliceSampler
    from torchgenaug.nets.spade import SpadeGenerator as SpadeGenerator
    from torchgenaug.nets.stylegan2 import StyleGAN2Critic as StyleGAN2Critic
    from torchgenaug.nets.stylegan2 import StyleGAN2Generator as StyleGAN2Generator
    from torchgenaug.nets.translation import TranslationUNet as TranslationUNet
    from torchgenaug.nets.vae import GaussianEncoder as GaussianEncoder
    from torchgenaug.nets.vae import LatentDecoder as LatentDecoder

_HOMES = {
    "AdversarialDenoiser": "adversarial_steps",
    "BallLatents": "latents",
    "CodeLatents": "code_latents",
    "Critic": "critic",
    "DCGANGenerator": "gan",
    "DeformationUNet": "deformation",
    "FlowLatents": "flow_latents",
    "GatedUNet": "gated",
    "GaussianEncoder": "vae",
    "HierarchicalSampler": "hierarchical_codes",
    "IntensityTable": "intensity_table",
    "LatentDecoder": "vae",
    "ManifoldLatents": "manifold_latents",
    "MixtureLatents": "latents",
    "ModalityUNet": "filling",
    "NormalLatents": "latents",
    "OnePassNetwork": "one_pass",
    "PGGANCritic": "pggan",
    "PGGANGenerator": "pggan",
    "PythaeNetwork": "pythae",
    "ScoreSampler": "score_sde",
    "SecondStageLatents": "flow_latents",
    "SliceSampler": "slice_sampler",
    "SpadeGenerator": "spade",
    "SphereLatents": "latents",
    "StyleGAN2Critic": "stylegan2",
    "StyleGAN2Generator": "stylegan2",
    "TranslationUNet": "translation",
}

__all__ = [
    "AdversarialDenoiser",
    "BallLatents",
    "CodeLatents",
    "Critic",
    "DCGANGenerator",
    "DeformationUNet",
    "FlowLatents",
    "GatedUNet",
    "GaussianEncoder",
    "HierarchicalSampler",
    "IntensityTable",
    "LatentDecoder",
    "ManifoldLatents",
    "MixtureLatents",
    "ModalityUNet",
    "NormalLatents",
    "OnePassNetwork",
    "PGGANCritic",
    "PGGANGenerator",
    "PythaeNetwork",
    "ScoreSampler",
    "SecondStageLatents",
    "SliceSampler",
    "SpadeGenerator",
    "SphereLatents",
    "StyleGAN2Critic",
    "StyleGAN2Generator",
    "TranslationUNet",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
