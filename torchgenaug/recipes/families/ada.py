"""Adaptive discriminator augmentation: what a critic is shown is transformed, more often the more it overfits.

Karras, Aittala, Hellsten, Laine, Lehtinen, Aila (2020), "Training generative adversarial networks with limited data",
sections 2 and 3 and appendix B. Every transform is skipped with probability 1 - p, so that the generator does not
learn the transforms; p rises while r_t = E[sign(score of a real image)] exceeds its target, and falls otherwise.

Differences from there: no flips, no quarter turns and no inverted or rotated colours, since a mirrored body is another
body, and grey values have a meaning; volumes turn in each of their three planes; what comes in from outside is the
reflection; p may go from 0 to 1 within a quarter of the training, which is far shorter than theirs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.recipes.options import Options
from torchgenaug.recipes.settings import Setting

_SHIFT, _DEGREES = 0.125, 20.0  # of the side; either way
_SCALE, _STRETCH, _CONTRAST = 0.2, 0.1, 0.5  # standard deviations of log2
_BRIGHTNESS = 0.2  # standard deviation, in units of [-1, 1]
_MOST = 0.8  # beyond, transforms leak into what is generated: Karras (2020), figure 3
_SIGNS_KEPT = 0.75  # of the running mean of r_t: about four batches, as there
_RAMP = 0.25  # of the training


def settings(default: bool) -> dict[str, Setting]:
    """The settings of a family whose critic can be shown transformed images."""
    return {
        "ada": Setting(default, "adaptive discriminator augmentation (Karras 2020), for few images"),
        "ada_target": Setting(0.6, "mean sign of a real image's score above which it rises", low=0, high=1),
    }


def augmentation(options: Options) -> dict[str, nn.Module]:
    """``{"ada": AdaptiveAugment}`` where the settings want one: kept among the networks, whose state a run resumes."""
    if not options.settings.get("ada", False):
        return {}
    return {"ada": AdaptiveAugment(_RAMP * (options.steps or 1), target=float(options.settings["ada_target"]))}


def shown(networks: Mapping[str, nn.Module], images: Tensor, *, marks: int = 0) -> Tensor:
    """What a critic is shown of `images`: transformed where ``ada`` is among the networks.

    Args:
        networks: of the recipe.
        images: (batch, channels, *spatial).
        marks: how many of the last channels are masks or marks, which move along and keep their values.
    """
    if "ada" not in networks:
        return images
    moved: Tensor = networks["ada"](images.roll(marks, 1), first=marks)
    return moved.roll(-marks, 1)


def observe(networks: Mapping[str, nn.Module], real_scores: Tensor, middle: Tensor | float = 0.0) -> None:
    """Adapts ``ada``, where it is among the networks, to the scores of real images: `AdaptiveAugment.observe`."""
    augment: Any = networks.get("ada")
    if augment is not None:
        augment.observe(real_scores, middle)


class AdaptiveAugment(nn.Module):
    """Transforms images with probability p each, and adapts p. It has no parameters.

    Args:
        ramp: steps in which p could go from 0 to 1.
        target: of r_t.

    Attributes:
        probability: p, a buffer.
        mean_sign: running mean of r_t, a buffer.
    """

    probability: Tensor
    mean_sign: Tensor

    def __init__(self, ramp: float, target: float = 0.6) -> None:
        super().__init__()
        self.change, self.target = 1 / max(1.0, ramp), target
        self.register_buffer("probability", torch.zeros(()))
        self.register_buffer("mean_sign", torch.zeros(()))

    @torch.no_grad()
    def observe(self, real_scores: Tensor, middle: Tensor | float = 0.0) -> None:
        """Adapts p to how a critic scores real images.

        Args:
            real_scores: any shape.
            middle: the score of an image that the critic cannot decide on.
        """
        from accelerate.utils import reduce

        sign = reduce((real_scores.float() - middle).sign().mean(), "mean")  # the processes' p stay equal
        self.mean_sign.lerp_(sign, 1 - _SIGNS_KEPT)
        change = (self.mean_sign - self.target).sign() * self.change
        self.probability.add_(change).clamp_(0, _MOST)

    def forward(self, images: Tensor, first: int = 0) -> Tensor:
        """Images (batch, channels, *spatial) in about [-1, 1], each transformed by its own draw; gradients pass.

        Args:
            images: what the critic would be shown.
            first: channels before this one are masks or sources: they move along and keep their values.
        """
        moved = functional.grid_sample(
            images.float(), self._grid(images), padding_mode="reflection", align_corners=False
        )
        ones = [1] * (images.ndim - 1)
        contrast = self._drawn(len(images), images).mul(_CONTRAST).exp2().view(-1, *ones)
        brightness = self._drawn(len(images), images).mul(_BRIGHTNESS).view(-1, *ones)
        coloured = moved[:, first:] * contrast + brightness
        return torch.cat([moved[:, :first], coloured], 1) if first else coloured

    def _drawn(self, count: int, images: Tensor) -> Tensor:
        """Standard normal numbers (count,), each 0 with probability 1 - p."""
        kept = torch.rand(count, device=images.device) < self.probability
        return torch.randn(count, device=images.device) * kept

    def _grid(self, images: Tensor) -> Tensor:
        batch, dims = len(images), images.ndim - 2
        sides = torch.tensor(images.shape[:1:-1], device=images.device)  # x, the last axis, first
        log_scale = self._drawn(batch, images)[:, None] * _SCALE
        log_scale = log_scale + torch.stack([self._drawn(batch, images) for _ in range(dims)], 1) * _STRETCH
        matrix = torch.diag_embed(log_scale.exp2())
        for one, two in itertools.combinations(range(dims), 2):
            matrix = self._turn(batch, dims, one, two, images) @ matrix
        reach = (_SHIFT * sides).round().clamp(min=1)
        kept = torch.rand((batch, 1), device=images.device) < self.probability
        whole = ((torch.rand((batch, dims), device=images.device) * 2 - 1) * reach).round() * kept
        rows = torch.cat([matrix * sides / sides[:, None], (2 * whole / sides)[:, :, None]], 2)
        return functional.affine_grid(rows, [batch, 1, *images.shape[2:]], align_corners=False)

    def _turn(self, batch: int, dims: int, one: int, two: int, images: Tensor) -> Tensor:
        kept = torch.rand(batch, device=images.device) < self.probability
        angle = (torch.rand(batch, device=images.device) * 2 - 1) * math.radians(_DEGREES) * kept
        turn = torch.eye(dims, device=images.device).repeat(batch, 1, 1)
        turn[:, one, one] = turn[:, two, two] = angle.cos()
        turn[:, one, two], turn[:, two, one] = -angle.sin(), angle.sin()
        return turn
