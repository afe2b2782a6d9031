"""Tiny networks whose weights all matter: fresh diffusers nets end in nearly zero layers, which would hide errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build()
        for parameter in net.parameters():
            with torch.no_grad():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return net


def unet(
    channels: int = 1,
    size: int | tuple[int, int] = 8,
    *,
    classes: int | None = None,
    blocks: int = 2,
    out_channels: int | None = None,
    **config: Any,
) -> nn.Module:
    from diffusers import UNet2DModel

    return seeded(
        lambda: UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels if out_channels is None else out_channels,
            block_out_channels=(8,) * blocks,
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D",) * blocks,
            up_block_types=("UpBlock2D",) * blocks,
            attention_head_dim=4,
            num_class_embeds=classes,
            **config,
        )
    )


def autoencoder(latent_channels: int = 2, **config: Any) -> nn.Module:
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
            **config,
        )
    )


def vq_model(latent_channels: int = 2) -> nn.Module:
    from diffusers import VQModel

    return seeded(
        lambda: VQModel(
            in_channels=1,
            out_channels=1,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            latent_channels=latent_channels,
            num_vq_embeddings=16,
            norm_num_groups=4,
        )
    )
