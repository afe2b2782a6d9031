"""``munit`` and ``unit``: from one modality to another without pairs, through a content that both share.

- ``munit``: Huang, Liu, Belongie, Kautz (2018), "Multimodal unsupervised image-to-image translation", section 3: an
  image is a content, which both modalities share, and a style of its own modality. A source with another style drawn is
  another image of the same anatomy: a style for each sample, from its seed.
- ``unit``: Liu, Breuel, Kautz (2017), "Unsupervised image-to-image translation networks", eq. 3 to 5: no styles, and
  the content is that of a variational autoencoder with unit variance; a source has one image.

Contents are the features of `TranslationUNet` at all its levels; the first ones carry details that a bottleneck loses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families import ada
from torchgenaug.recipes.families.cyclegan import source_synthesizer, unpaired
from torchgenaug.recipes.families.pix2pix import patch_critic
from torchgenaug.recipes.families.structure import STRUCTURE, edge_distance
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.synthesizers import ModuleSynthesizer, build_network
from torchgenaug.types import Batch

FAMILIES = {
    "munit": Family(
        "unpaired translation with a style code (Huang 2018): several images of one source, a style for each seed",
        steps=2500,
        batch_size=4,
        conditions=("source",),
        dims=(2, 3),
        settings={**ada.settings(default=False), **STRUCTURE},
    ),
    "unit": Family(
        "unpaired translation through a shared latent space (Liu 2017): munit without styles, one image of a source",
        steps=2500,
        batch_size=4,
        conditions=("source",),
        dims=(2, 3),
        settings={**ada.settings(default=False), **STRUCTURE},
    ),
}
_IMAGE_WEIGHT, _CODE_WEIGHT, _PRIOR_WEIGHT = 10.0, 1.0, 0.01
_STYLE_DIM = 8
_SIDES = ("image", "source")


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for images or volumes.

    Raises:
        ConfigurationError: sizes that the networks cannot halve.
    """
    return SharedContent(family, data, options)


class SharedContent:
    """Two translators (the encoder of one modality, the decoder of the other), style encoders and critics of both."""

    averaged = frozenset({"to_image"})

    def __init__(self, family: str, data: TrainingData, options: Options) -> None:
        self.data, self.options = data, options
        self.style_dim = (options.latent_dim or _STYLE_DIM) if family == "munit" else None
        width = options.width or 16
        shapes = {"image": list(data.image_shape), "source": list(data.fields["source"].shape)}
        self.networks: Mapping[str, nn.Module] = {
            "to_image": _translator(shapes["source"][0], shapes["image"], width, self.style_dim),
            "to_source": _translator(shapes["image"][0], shapes["source"], width, self.style_dim),
            **ada.augmentation(options),
        }
        for side in _SIDES:
            self.networks = {**self.networks, f"{side}_critic": patch_critic(data, shapes[side][0], width)}
            if self.style_dim is not None:
                style = _style_encoder(data.spatial_dims, shapes[side][0], width, self.style_dim)
                self.networks = {**self.networks, f"{side}_style": style}

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam, as in `cyclegan`."""
        rate = self.options.learning_rate or 5e-4
        parameters: dict[str, list[nn.Parameter]] = {"generators": [], "critics": []}
        for name, network in self.networks.items():
            parameters["critics" if name.endswith("critic") else "generators"] += network.parameters()
        return {name: Adam(each, lr=rate, betas=(0.5, 0.99)) for name, each in parameters.items()}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """All generators, then both critics."""
        image, source = unpaired(batch)
        # Who encodes one modality decodes the other.
        content = {"image": self._encode("to_source", image), "source": self._encode("to_image", source)}
        drawn = {side: self._drawn(image) for side in _SIDES}
        fake = {
            "image": self._decode("to_image", content["source"], drawn["image"]),
            "source": self._decode("to_source", content["image"], drawn["source"]),
        }
        again = {
            "source": self._encode("to_source", fake["image"]),
            "image": self._encode("to_image", fake["source"]),
        }
        given = {"image": image, "source": source}
        losses = {"generators": torch.stack([self._score(side, fake[side], 1.0) for side in _SIDES]).sum()}
        rebuilt, codes = [], []
        for side in _SIDES:
            decoder = f"to_{side}"
            own = self._style(side, given[side])
            rebuilt.append(functional.l1_loss(self._decode(decoder, content[side], own), given[side]))
            if own is None:
                rebuilt.append(functional.l1_loss(self._decode(decoder, again[side], None), given[side]))
                codes += [_PRIOR_WEIGHT * each[-1].square().mean() for each in (content[side], again[side])]
            else:
                gaps = [functional.l1_loss(a, b) for a, b in zip(again[side], content[side], strict=True)]
                codes.append(_CODE_WEIGHT * torch.stack(gaps).mean())
                style = self._style(side, fake[side])
                codes.append(_CODE_WEIGHT * functional.l1_loss(style, drawn[side]))  # type: ignore[arg-type]
        losses["rebuilt"] = _IMAGE_WEIGHT * torch.stack(rebuilt).sum()
        losses["codes"] = torch.stack(codes).sum()
        weight = float(self.options.settings["structure"])
        if weight:
            edges = edge_distance(fake["image"], source) + edge_distance(fake["source"], image)
            losses["structure"] = weight * edges
        update({"generators": torch.stack(list(losses.values())).sum()})
        scores = [
            self._score(side, given[side], 1.0, observed=True) + self._score(side, fake[side].detach(), 0.0)
            for side in _SIDES
        ]
        losses["critics"] = 0.5 * torch.stack(scores).sum()
        update({"critics": losses["critics"]})
        return losses

    def _encode(self, name: str, images: Tensor) -> list[Tensor]:
        network: Any = self.networks[name]
        features: list[Tensor] = network.encode(images)
        if self.style_dim is None:  # unit: a sample of the content's distribution
            features[-1] = features[-1] + torch.randn_like(features[-1])
        return features

    def _decode(self, name: str, content: Sequence[Tensor], style: Tensor | None) -> Tensor:
        network: Any = self.networks[name]
        images: Tensor = network.decode(content, style)
        return images

    def _drawn(self, like: Tensor) -> Tensor | None:
        return None if self.style_dim is None else torch.randn((len(like), self.style_dim), device=like.device)

    def _style(self, side: str, images: Tensor) -> Tensor | None:
        return None if self.style_dim is None else self.networks[f"{side}_style"](images)

    def _score(self, side: str, images: Tensor, wanted: float, *, observed: bool = False) -> Tensor:
        scores: Tensor = self.networks[f"{side}_critic"](ada.shown(self.networks, images))[-1]
        if observed:
            ada.observe(self.networks, scores, middle=0.5)
        return (scores - wanted).square().mean()

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> ModuleSynthesizer:
        """One call of the translator; the latents of ``munit`` are the style."""
        return source_synthesizer(networks["to_image"], self.data, self.style_dim)


def _translator(in_channels: int, shape: list[int], width: int, style_dim: int | None) -> nn.Module:
    return build_network(
        "torchgenaug:TranslationUNet", in_channels=in_channels, shape=shape, width=width, latent_dim=style_dim
    )


def _style_encoder(dims: int, channels: int, width: int, style_dim: int) -> nn.Module:
    """Images → their style (batch, style_dim); without norms, which would take it away (Huang, appendix B)."""
    convolution, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    return nn.Sequential(
        convolution(channels, width, 4, stride=2, padding=1),
        nn.ReLU(),
        convolution(width, 2 * width, 4, stride=2, padding=1),
        nn.ReLU(),
        pool(1),
        nn.Flatten(),
        nn.Linear(2 * width, style_dim),
    )
