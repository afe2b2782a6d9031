"""Tiny networks of MONAI, built by blueprint, whose weights all matter: fresh ones end in layers of zeros."""

from __future__ import annotations

from typing import Any

import torch
from tiny_nets import seeded
from torch import nn

from torchgenaug.synthesizers.parts.blueprints import build_network

_SHARED = {"num_res_blocks": 1, "channels": [8, 8], "norm_num_groups": 4}


def unet(
    dims: int = 2, channels: int = 1, *, extra: int = 0, kind: str = "DiffusionModelUNet", **config: Any
) -> nn.Module:
    settings = {**_SHARED, "attention_levels": [False, False], "num_head_channels": 4, **config}
    return seeded(
        lambda: build_network(
            f"monai:{kind}", spatial_dims=dims, in_channels=channels + extra, out_channels=channels, **settings
        )
    )


def spade_unet(dims: int = 2, channels: int = 1, *, classes: int = 3, **config: Any) -> nn.Module:
    return unet(
        dims, channels, kind="SPADEDiffusionModelUNet", label_nc=classes, spade_intermediate_channels=4, **config
    )


def controlnet(dims: int = 2, channels: int = 1, *, control: int = 1, levels: int = 1, **config: Any) -> nn.Module:
    return seeded(
        lambda: build_network(
            "monai:ControlNet",
            spatial_dims=dims,
            in_channels=channels,
            attention_levels=[False, False],
            num_head_channels=4,
            conditioning_embedding_in_channels=control,
            conditioning_embedding_num_channels=[4] * levels,
            **{**_SHARED, **config},
        )
    )


def autoencoder(dims: int = 2, latent: int = 2, *, kind: str = "AutoencoderKL", **config: Any) -> nn.Module:
    without_attention = {"with_encoder_nonlocal_attn": False, "with_decoder_nonlocal_attn": False}
    return seeded(
        lambda: build_network(
            f"monai:{kind}",
            spatial_dims=dims,
            latent_channels=latent,
            attention_levels=[False, False],
            **{**_SHARED, **without_attention, **config},
        )
    )


def vqvae(dims: int = 2, latent: int = 2) -> nn.Module:
    return seeded(
        lambda: build_network(
            "monai:VQVAE",
            spatial_dims=dims,
            in_channels=1,
            out_channels=1,
            channels=[4],
            num_res_layers=1,
            num_res_channels=[4],
            downsample_parameters=[[2, 4, 1, 1]],
            upsample_parameters=[[2, 4, 1, 1, 0]],
            num_embeddings=8,
            embedding_dim=latent,
        )
    )


def masks(seeds: Any, size: tuple[int, ...], classes: int) -> torch.Tensor:
    """A mask for each seed, which depends on the seed alone."""
    made = [torch.randint(classes, (1, *size), generator=torch.Generator().manual_seed(seed % 2**31)) for seed in seeds]
    return torch.stack(made)


def images(seeds: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """An image in [0, 1] for each seed, which depends on the seed alone."""
    return torch.stack([torch.rand(shape, generator=torch.Generator().manual_seed(seed % 2**31)) for seed in seeds])
