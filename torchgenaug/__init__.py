"""torchgenaug: train medical-imaging models on real and generated data together.

The public names are imported when they are first used, so that ``import torchgenaug`` costs little more than
``import torch`` and needs no optional package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchgenaug.lazy import lazy_exports

__version__ = "0.1.0"

_HOMES = {
    "Compute": "synthesizers",
    "DiffusionEditSynthesizer": "synthesizers",
    "DiffusionSampler": "synthesizers",
    "ClassLabels": "conditions",
    "ClassPrompts": "conditions",
    "CollapseScreen": "screens",
    "CombinedSource": "sources",
    "ConstantScreen": "screens",
    "Counterfactuals": "conditions",
    "Covariates": "conditions",
    "DiTSynthesizer": "synthesizers",
    "DiffusersSynthesizer": "synthesizers",
    "EnsembleSynthesizer": "synthesizers",
    "FieldSpec": "types",
    "FillClasses": "conditions",
    "FillMissing": "mixing.dataset",
    "FunctionSynthesizer": "synthesizers",
    "JointConditions": "conditions",
    "MixDistributedSampler": "mixing.dataset",
    "MixPlan": "plan",
    "LabelsToImageSynthesizer": "synthesizers",
    "ModuleSynthesizer": "synthesizers",
    "MonaiSynthesizer": "synthesizers",
    "PlacedLesions": "conditions",
    "Prompts": "conditions",
    "PythaeSynthesizer": "synthesizers",
    "RealFields": "conditions",
    "ShardJob": "shards",
    "ShardSource": "shards",
    "StableDiffusionSynthesizer": "synthesizers",
    "SyntheticMixDataset": "mixing.dataset",
    "SyntheticMixLoader": "mixing.loader",
    "SyntheticPool": "pool",
    "SyntheticSequence": "sequence",
    "TransformedSynthesizer": "synthesizers",
    "TwoStageSynthesizer": "synthesizers",
    "announce_rank": "shards",
    "balance_classes": "sources",
    "build_network": "synthesizers",
    "encode_prompts": "synthesizers",
    "fit_latents": "synthesizers",
    "keep_classes": "sources",
    "load_monai_bundle": "synthesizers",
    "load_synthesizer": "synthesizers",
    "render_job": "shards",
    "render_shards": "shards",
    "save_synthesizer": "synthesizers",
    "shard_jobs": "shards",
    "verify_shards": "shards",
}

__all__ = [
    "ClassLabels",
    "ClassPrompts",
    "CollapseScreen",
    "CombinedSource",
    "Compute",
    "ConstantScreen",
    "Counterfactuals",
    "Covariates",
    "DiTSynthesizer",
    "DiffusersSynthesizer",
    "DiffusionEditSynthesizer",
    "DiffusionSampler",
    "EnsembleSynthesizer",
    "FieldSpec",
    "FillClasses",
    "FillMissing",
    "FunctionSynthesizer",
    "JointConditions",
    "LabelsToImageSynthesizer",
    "MixDistributedSampler",
    "MixPlan",
    "ModuleSynthesizer",
    "MonaiSynthesizer",
    "PlacedLesions",
    "Prompts",
    "PythaeSynthesizer",
    "RealFields",
    "ShardJob",
    "ShardSource",
    "StableDiffusionSynthesizer",
    "SyntheticMixDataset",
    "SyntheticMixLoader",
    "SyntheticPool",
    "SyntheticSequence",
    "TransformedSynthesizer",
    "TwoStageSynthesizer",
    "announce_rank",
    "balance_classes",
    "build_network",
    "encode_prompts",
    "fit_latents",
    "keep_classes",
    "load_monai_bundle",
    "load_synthesizer",
    "render_job",
    "render_shards",
    "save_synthesizer",
    "shard_jobs",
    "verify_shards",
]

if TYPE_CHECKING:
    from torchgenaug.conditions import (
        ClassLabels,
        ClassPrompts,
        Counterfactuals,
        Covariates,
        FillClasses,
        JointConditions,
        PlacedLesions,
        Prompts,
        RealFields,
    )
    from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
    from torchgenaug.mixing.dataset.fill_missing import FillMissing
    from torchgenaug.mixing.dataset.rank_sampler import MixDistributedSampler
    from torchgenaug.mixing.loader import SyntheticMixLoader
    from torchgenaug.plan.mix_plan import MixPlan
    from torchgenaug.pool import SyntheticPool
    from torchgenaug.screens import CollapseScreen, ConstantScreen
    from torchgenaug.sequence.sequence import SyntheticSequence
    from torchgenaug.shards import (
        CombinedSource,
        ShardJob,
        ShardSource,
        announce_rank,
        balance_classes,
        keep_classes,
        render_job,
        render_shards,
        shard_jobs,
        verify_shards,
    )
    from torchgenaug.synthesizers import (
        Compute,
        DiffusersSynthesizer,
        DiffusionEditSynthesizer,
        DiffusionSampler,
        DiTSynthesizer,
        EnsembleSynthesizer,
        FunctionSynthesizer,
        LabelsToImageSynthesizer,
        ModuleSynthesizer,
        MonaiSynthesizer,
        PythaeSynthesizer,
        StableDiffusionSynthesizer,
        TransformedSynthesizer,
        TwoStageSynthesizer,
        build_network,
        encode_prompts,
        fit_latents,
        load_monai_bundle,
        load_synthesizer,
        save_synthesizer,
    )
    from torchgenaug.types import FieldSpec

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
