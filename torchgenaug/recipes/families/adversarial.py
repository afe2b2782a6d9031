"""What GAN recipes share: losses, gradient penalties, augmentations that gradients pass, averages of BatchNorm.

References:
    Goodfellow et al. (2014), "Generative adversarial nets" (non-saturating loss, section 3).
    Gulrajani et al. (2017), "Improved training of Wasserstein GANs", eq. 3.
    Mescheder, Geiger, Nowozin (2018), "Which training methods for GANs do actually converge?", eq. 9 (R1).
    Zhao, Liu, Lin, Zhu, Han (2020), "Differentiable augmentation for data-efficient GAN training" (DiffAugment).
    Mao et al. (2019), "Mode seeking generative adversarial networks for diverse image synthesis".
    Brock, Donahue, Simonyan (2019), "Large scale GAN training", section 3.1 and appendix B (standing statistics).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.recipes.settings import Setting
from torchgenaug.synthesizers import build_network

R1 = Setting(0.2, "weight of the R1 penalty (Mescheder 2018) on the critic's gradient; 0: none", low=0)
_SHIFT, _HOLE, _BRIGHTNESS = 0.125, 0.4, 0.25  # of the side; of the side; in units of [-1, 1]
_STANDING_BATCHES = 16


def real_loss(scores: Tensor) -> Tensor:
    """Mean of -log σ(score): what makes a critic call images real, and a generator make such images."""
    return functional.softplus(-scores).mean()


def fake_loss(scores: Tensor) -> Tensor:
    """Mean of -log(1 - σ(score)): what makes a critic call images fake."""
    return functional.softplus(scores).mean()


def squared_gradient(scores: Tensor, images: Tensor) -> Tensor:
    """|∂ score / ∂ image|² of each image (batch,); its half, times a weight, is R1. Differentiable itself."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(1)


def lipschitz_penalty(score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (|∂ score / ∂ image| - 1)² at random places between `real` and `fake` images (Gulrajani, eq. 3)."""
    place = torch.rand((len(real), *[1] * (real.ndim - 1)), device=real.device)
    between = torch.lerp(real, fake.to(real.dtype), place).requires_grad_()  # half precision: that of its layers
    # The root of zero has no gradient.
    return ((squared_gradient(score(between), between) + 1e-12).sqrt() - 1).square().mean()


def sameness(images: Tensor, others: Tensor, latents: Tensor) -> Tensor:
    """Mean of 1 / (1 + ratio): ratio = |image - other| / |latent - other latent| over its usual value, a twentieth.

    It keeps latents from being ignored: Mao et al. (2019), eq. 5, bounded.

    Args:
        images: of the first half of `latents`.
        others: of the second half, from the same conditions.
        latents: (2 · batch, length).
    """
    first, second = latents.chunk(2)
    apart = (images - others).abs().flatten(1).mean(1) / (first - second).abs().mean(1)
    return (1 / (1 + 20 * apart)).mean()


def diff_augment(images: Tensor, *, bright: int | None = None) -> Tensor:
    """Each image (batch, channels, *spatial) brightened, shifted and with a hole; gradients pass.

    Real and generated images are both shown to the critic in this way only, so that it cannot learn few images by
    heart. Random numbers come from torch's default generator of the images' device.

    Args:
        images: in [-1, 1], where 0 is a middle grey: the hole has that value, and what is shifted in is -1.
        bright: how many of the first channels may change their brightness; the others are masks. None: all.
    """
    batch, channels, *spatial = images.shape
    ones = [1] * len(spatial)
    offset = (torch.rand((batch, 1, *ones), device=images.device) * 2 - 1) * _BRIGHTNESS
    changes = torch.arange(channels, device=images.device) < (channels if bright is None else bright)
    images = images + offset * changes.to(images.dtype).reshape(1, -1, *ones)
    keep = torch.ones((batch, 1, *spatial), device=images.device, dtype=torch.bool)
    for axis, size in enumerate(spatial, 2):
        reach = max(1, round(_SHIFT * size))
        shifts = torch.randint(-reach, reach + 1, (batch,), device=images.device)
        places = torch.arange(size, device=images.device) - shifts[:, None]
        shape = [batch, 1] + [size if axis == other else 1 for other in range(2, images.ndim)]
        inside = ((places >= 0) & (places < size)).reshape(shape)
        images = images.gather(axis, places.clamp(0, size - 1).reshape(shape).expand_as(images))
        images = torch.where(inside, images, -1.0)
        middle = torch.randint(0, size, (batch, 1), device=images.device)
        hole = (torch.arange(size, device=images.device) - middle).abs() * 2 < _HOLE * size
        keep = keep & hole.reshape(shape)
    return images * ~keep


def with_ranges(network: nn.Module, **settings: Any) -> nn.Module:
    """A network of the same class and weights as `network`, made by `build_network`, with other settings."""
    blueprint: Any = network.blueprint
    made = build_network(blueprint["class"], **{**blueprint["arguments"], **settings})
    made.load_state_dict(network.state_dict())
    return made.to(next(network.parameters()).device)


@torch.no_grad()
def standing_statistics(network: nn.Module, call: Callable[[nn.Module, torch.Generator], object]) -> nn.Module:
    """A copy whose BatchNorms have the statistics of its own activations, not those of a network that was averaged.

    Args:
        network: an average of networks.
        call: calls the network on one batch that it draws from the (seeded) generator.
    """
    made = copy.deepcopy(network)
    norms = [layer for layer in made.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    draw = torch.Generator().manual_seed(0)
    for _ in range(_STANDING_BATCHES if norms else 0):
        call(made, draw)
    return made.eval()
