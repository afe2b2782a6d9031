"""The networks of a MONAI diffusion model as one module: denoiser with its ControlNet, encoder and decoder."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.monai.networks import frozen_copy, label_channels_of, shape_of
from torchgenaug.synthesizers.monai.wiring import ConditionInputs, Wiring
from torchgenaug.synthesizers.parts.checks import in_float32, propagate_nonfinite


class Denoiser(nn.Module):
    """Frozen copies of the networks; without state, so that threads may share it.

    Args:
        unet: the network that denoises.
        controlnet: what adds to its features, or None.
        autoencoder: what decodes its samples, or None.
        device: where to compute.
        dtype: dtype of weights and activations.
    """

    unet: nn.Module
    controlnet: nn.Module | None
    autoencoder: nn.Module | None

    def __init__(
        self,
        unet: nn.Module,
        controlnet: nn.Module | None,
        autoencoder: nn.Module | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.unet = frozen_copy(unet, device, dtype)
        self.controlnet = None if controlnet is None else frozen_copy(controlnet, device, dtype)
        self._vector_quantized = hasattr(autoencoder, "quantizer")
        # MONAI's quantizer computes distances in float32, and fails with a codebook of another dtype.
        decoder_dtype = torch.float32 if self._vector_quantized else dtype
        self.autoencoder = None if autoencoder is None else frozen_copy(autoencoder, device, decoder_dtype)
        self._spade = label_channels_of(unet) is not None
        self._spade_decoder = autoencoder is not None and label_channels_of(autoencoder) is not None

    def networks(self) -> dict[str, nn.Module]:
        """Name → network, of those that there are."""
        named = (("unet", self.unet), ("controlnet", self.controlnet), ("autoencoder", self.autoencoder))
        return {name: network for name, network in named if network is not None}

    def forward(self, samples: Tensor, time: Tensor, conditioning: ConditionInputs) -> Tensor:
        """What the network predicts, float32.

        Args:
            samples: (batch, channels, *spatial) noisy samples, in the dtype of the networks.
            time: (1,) float32.
            conditioning: the conditions, in the batch size of `samples`.
        """
        inputs = samples if conditioning.maps is None else torch.cat([samples, conditioning.maps], 1)
        options: dict[str, Any] = {"context": conditioning.context, "class_labels": conditioning.labels}
        residuals: dict[str, Any] = {}
        if self.controlnet is not None:
            down, middle = self.controlnet(inputs, time, controlnet_cond=conditioning.control, **options)
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        if self._spade:
            options["seg"] = conditioning.segmentation
        output: Tensor = self.unet(inputs, time, **options, **residuals)
        return in_float32(output)

    def encode(self, images: Tensor) -> Tensor:
        """The latents of `images`, before they are scaled: means, or the nearest vectors of the codebook."""
        net: Any = self.autoencoder
        inputs = images.to(_dtype_of(net))
        # (encode_stage_2_inputs of an AutoencoderKL draws from the global generator.)
        latents = net.encode_stage_2_inputs(inputs) if self._vector_quantized else net.encode(inputs)[0]
        return cast(Tensor, latents.float())

    def decode(self, latents: Tensor, segmentation: Tensor | None) -> Tensor:
        """Images from unscaled latents, float32; the latents themselves without an autoencoder."""
        if self.autoencoder is None:
            return latents
        net: Any = self.autoencoder
        options = {"seg": segmentation} if self._spade_decoder else {}
        decoded: Tensor = net.decode_stage_2_outputs(latents.to(_dtype_of(net)), **options)
        return propagate_nonfinite(decoded.float(), latents)


def checked_sample_shape(denoiser: Denoiser, wiring: Wiring) -> tuple[int, ...]:
    """(channels, *size) of a sample, after a run on shapes alone.

    Raises:
        ConfigurationError: networks that do not fit each other, the size or the conditions.
    """
    spatial, classes = wiring.latent[1:], wiring.mask_classes
    dtype = _dtype_of(denoiser.unet)
    maps = wiring.concatenated + (len(wiring.covariates) if wiring.constant else 0)

    def blank(*shape: int) -> Tensor:
        return torch.empty((1, *shape), device="meta", dtype=dtype)

    net: Any = denoiser.unet
    conditioning = ConditionInputs(
        labels=None if net.num_class_embeds is None else torch.empty(1, dtype=torch.int64, device="meta"),
        maps=blank(maps, *spatial) if maps else None,
        control=blank(*wiring.control) if wiring.control else None,
        segmentation=blank(classes, *wiring.size) if wiring.segmented and classes else None,
        context=blank(1, len(wiring.covariates)) if wiring.attended else None,
    )
    try:
        output = shape_of(denoiser, "forward", blank(*wiring.latent), torch.empty(1, device="meta"), conditioning)
        sample = shape_of(denoiser, "decode", blank(*wiring.latent), conditioning.segmentation)[1:]
    except Exception as error:
        raise ConfigurationError(
            f"`unet`, `controlnet` and `autoencoder` must fit each other and images of the size {wiring.size}, got "
            f"networks that fail with: {error!r}. Use those that were trained together, and their size."
        ) from error
    if output[1:] != wiring.latent:
        raise ConfigurationError(
            f"`unet` must return what it denoises, {wiring.latent}, got {output[1:]}. Check its out_channels; networks "
            "that also predict variances are not sampled."
        )
    if sample[1:] != wiring.size:
        raise ConfigurationError(
            f"`size` must be one that `autoencoder` gives back, got {wiring.size}, of which it makes {sample[1:]}. "
            f"Pad the data and train with size={sample[1:]}."
        )
    return sample


def _dtype_of(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype
