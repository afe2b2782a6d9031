"""The network classes that a saved folder may name; loading any other one needs the user's consent.

All of them are built from their arguments alone: none reads a file or fetches anything, which a test proves by
building each of them without a network connection.
"""

from __future__ import annotations

from collections.abc import Mapping

KNOWN_NETWORKS: Mapping[str, frozenset[str]] = {
    "torchgenaug": frozenset(
        {
            *("AdversarialDenoiser", "BallLatents", "CodeLatents", "Critic", "DCGANGenerator", "FlowLatents"),
            *("GatedUNet", "GaussianEncoder", "HierarchicalSampler", "IntensityTable", "LatentDecoder"),
            *("DeformationUNet", "ManifoldLatents", "ScoreSampler", "SliceSampler"),
            *("MixtureLatents", "ModalityUNet", "NormalLatents", "OnePassNetwork", "PGGANCritic", "PGGANGenerator"),
            *("PythaeNetwork", "SecondStageLatents", "SpadeGenerator", "SphereLatents", "StyleGAN2Critic"),
            *("StyleGAN2Generator", "TranslationUNet"),
        }
    ),
    "monai": frozenset(
        {
            *("AttentionUnet", "AutoEncoder", "AutoencoderKL", "BasicUNet", "BasicUNetPlusPlus", "Classifier"),
            *("ControlNet", "Critic", "DenseNet", "DiffusionModelUNet", "Discriminator", "DynUNet"),
            *("FullyConnectedNet", "Generator", "HighResNet", "MultiScalePatchDiscriminator"),
            *("PatchDiscriminator", "Regressor", "ResNet", "SPADEAutoencoderKL", "SPADEDiffusionModelUNet"),
            *("SPADENet", "SegResNet", "SegResNetDS", "SegResNetVAE", "SwinUNETR", "UNETR", "UNet", "VNet", "VQVAE"),
            *("VarAutoEncoder", "VarFullyConnectedNet", "ViT", "ViTAutoEnc", "VoxelMorphUNet"),
        }
    ),
    "diffusers": frozenset(
        {
            *("AsymmetricAutoencoderKL", "AutoencoderKL", "AutoencoderTiny", "ControlNetModel"),
            *("DiTTransformer2DModel", "Transformer2DModel"),
            *("UNet1DModel", "UNet2DConditionModel", "UNet2DModel", "UNet3DConditionModel", "VQModel"),
        }
    ),
}
"""Library → its classes."""
