"""`CodePrior`: an autoregressive distribution of grids of codes in 2D and 3D, given other maps and a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_CONVOLUTIONS: Any = {2: functional.conv2d, 3: functional.conv3d}
_LAYERS: Any = {2: nn.Conv2d, 3: nn.Conv3d}


class CodePrior(nn.Module):
    """Each code given those before it, in the order of the grid's memory: van den Oord et al. (2016), PixelCNN.

    Args:
        dims: 2 or 3.
        num_codes: size of the code book.
        width: channels.
        depth: masked residual layers.
        given: channels of the maps that it is conditioned on; 0 for none.
        num_classes: classes; None for none.
    """

    def __init__(
        self, dims: int, num_codes: int, width: int, depth: int = 4, given: int = 0, num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Embedding(num_codes, width)
        self.first = _MaskedConvolution(dims, width, 5, here=False)
        self.given = _LAYERS[dims](given, width, 3, padding=1) if given else None
        self.classes = None if num_classes is None else nn.Embedding(num_classes, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.SiLU(), _LAYERS[dims](width, width, 1), nn.SiLU(), _MaskedConvolution(dims, width, 3))
            for _ in range(depth)
        )
        self.last = nn.Sequential(nn.SiLU(), _LAYERS[dims](width, num_codes, 1))

    def forward(
        self,
        codes: Tensor,
        given: Tensor | None = None,
        labels: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """(batch, *grid) int64, maps (batch, given, *grid), labels (batch,) → logits (batch, num_codes, *grid).

        What else is known while it trains comes as `features` (batch, width), which are added to those of each place.
        """
        added = self._conditions(codes, given, labels)
        if features is not None:
            added = added + features.view(*features.shape, *[1] * (codes.ndim - 1))
        return self._logits(codes, added)

    def _conditions(self, codes: Tensor, given: Tensor | None, labels: Tensor | None) -> Tensor:
        """What maps and classes add: (batch, width, *grid), or 1 in place of sizes that do not matter."""
        added = torch.zeros(1, device=codes.device).view([1] * (codes.ndim + 1))
        if self.given is not None:
            added = added + self.given(given)
        if self.classes is not None:
            added = added + self.classes(labels).view(len(codes), -1, *[1] * (codes.ndim - 1))
        return added

    def _logits(self, codes: Tensor, added: Tensor) -> Tensor:
        hidden = self.first(self.embed(codes).movedim(-1, 1)) + added
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        logits: Tensor = self.last(hidden)
        return logits

    def draw(
        self, uniform: Tensor, grid: Sequence[int], given: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """Codes (batch, *grid) int64: code k is where its distribution function passes uniform number k.

        Slow: one pass of the network per code.

        Args:
            uniform: (batch, codes) in [0, 1].
            grid: sizes.
            given: maps, as in `forward`.
            labels: likewise.
        """
        codes = torch.zeros((len(uniform), *grid), dtype=torch.int64, device=uniform.device)
        # Of all maps at once: their layer looks at what lies behind, too.
        added = self._conditions(codes, given, labels)
        for number in range(math.prod(grid)):
            place: Any = (..., *(int(index) for index in torch.unravel_index(torch.tensor(number), tuple(grid))))
            seen = slice(0, place[1] + 1)  # codes that lie behind are not looked at
            logits = self._logits(codes[:, seen], added if self.given is None else added[:, :, seen])
            edges = logits[place].double().softmax(1).cumsum(1)
            below = edges < uniform[:, number, None].double() * edges[:, -1:]
            codes.view(len(codes), -1)[:, number] = below.sum(1).clamp_max_(edges.shape[1] - 1)
        return codes


class _MaskedConvolution(nn.Module):
    """A convolution that sees what comes before in memory; its own place, too, if `here`."""

    mask: Tensor

    def __init__(self, dims: int, width: int, size: int, *, here: bool = True) -> None:
        super().__init__()
        layer = _LAYERS[dims](width, width, size)
        self.weight, self.bias, self.dims, self.size = layer.weight, layer.bias, dims, size
        mask = torch.zeros(size**dims)
        mask[: size**dims // 2 + here] = 1
        self.register_buffer("mask", mask.view([size] * dims), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        made: Tensor = _CONVOLUTIONS[self.dims](values, self.weight * self.mask, self.bias, padding=self.size // 2)
        return made
