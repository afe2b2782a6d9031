"""Networks whose weights all matter, built alike everywhere: fresh ones of diffusers and MONAI end in zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug import build_network

TOKENS, EMBEDDING = 3, 8


def seeded(build: Callable[[], Any]) -> Any:
    """What `build` makes, with the same random weights each time, in eval mode on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    return network.eval()


def unet(widths: tuple[int, ...] = (8, 8), side: int = 8, channels: int = 1, classes: int | None = None) -> Any:
    from diffusers import UNet2DModel

    return seeded(
        lambda: UNet2DModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=widths,
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=(*("DownBlock2D",) * (len(widths) - 1), "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", *("UpBlock2D",) * (len(widths) - 1)),
            attention_head_dim=min(32, widths[-1]),
            num_class_embeds=classes,
        )
    )


def vae(latent_channels: int) -> Any:
    from diffusers import AutoencoderKL

    return seeded(
        lambda: AutoencoderKL(
            in_channels=1,
            out_channels=1,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            latent_channels=latent_channels,
            norm_num_groups=4,
        )
    )


def transformer(classes: int = 3) -> Any:
    from diffusers import DiTTransformer2DModel

    return seeded(
        lambda: DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=4,
            in_channels=1,
            out_channels=1,
            num_layers=2,
            norm_num_groups=1,
            sample_size=4,
            patch_size=2,
            num_embeds_ada_norm=classes,
        )
    )


def prompted_unet() -> Any:
    from diffusers import UNet2DConditionModel

    return seeded(
        lambda: UNet2DConditionModel(
            sample_size=4,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=EMBEDDING,
            attention_head_dim=4,
        )
    )


def controlnet() -> Any:
    from diffusers import ControlNetModel

    return seeded(
        lambda: ControlNetModel(
            in_channels=4,
            conditioning_channels=1,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            cross_attention_dim=EMBEDDING,
            attention_head_dim=4,
            conditioning_embedding_out_channels=(4, 8),
        )
    )


def embeddings(count: int) -> Tensor:
    """Prompts, as a text encoder would give them: (count, tokens, channels)."""
    return torch.randn((count, TOKENS, EMBEDDING), generator=torch.Generator().manual_seed(3))


def monai_unet(
    dims: int, channels: int = 1, widths: tuple[int, ...] = (8, 8), attention: bool = False, **others: Any
) -> Any:
    return seeded(
        lambda: build_network(
            "monai:DiffusionModelUNet",
            spatial_dims=dims,
            in_channels=channels,
            out_channels=channels,
            num_res_blocks=1,
            channels=widths,
            attention_levels=[False] * (len(widths) - 1) + [attention],
            num_head_channels=4 if widths[-1] < 64 else 64,
            norm_num_groups=4,
            **others,
        )
    )


def monai_autoencoder(dims: int, latent_channels: int, widths: tuple[int, ...] = (8, 8)) -> Any:
    return seeded(
        lambda: build_network(
            "monai:AutoencoderKL",
            spatial_dims=dims,
            in_channels=1,
            out_channels=1,
            latent_channels=latent_channels,
            channels=widths,
            num_res_blocks=1,
            attention_levels=[False] * len(widths),
            norm_num_groups=4,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
    )


def generator() -> Any:
    """A generator of images (1, 8, 8) from vectors of 6 numbers."""
    return seeded(lambda: build_network("torchgenaug:DCGANGenerator", latent_dim=6, shape=[1, 8, 8], width=8))


def classifier(width: int) -> nn.Module:
    """What is trained: five convolutions and a linear layer, for images of one channel and two classes."""

    def block(before: int, after: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU())

    blocks = [block(1, width), block(width, 2 * width), block(2 * width, 4 * width)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 2))
