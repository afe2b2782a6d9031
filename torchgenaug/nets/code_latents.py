"""`CodeLatents`: planes of codes for a VQ-VAE, drawn code by code by a masked convolutional network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug import seeding


class CodeLatents(nn.Module):
    """An autoregressive distribution of code planes, and the code book that turns them into latents.

    Code k is drawn from the network's distribution given the codes before it (rows first), by the inverse of its
    distribution function at a uniform number of (seed, k): a function of the seed alone.

    Args:
        plane: (rows, columns) of codes.
        num_codes: size of the code book.
        code_dim: length of one code.
        width: channels of the network.
        depth: masked residual layers.
        flat: the decoder takes vectors: latents are (rows · columns · code_dim,).
        pythae: configuration of a ``PixelCNN`` of pythae to use as the network, instead of our own.

    Attributes:
        book: (num_codes, code_dim), the code book.

    References:
        van den Oord, Kalchbrenner, Kavukcuoglu (2016). Pixel recurrent neural networks. ICML.
        van den Oord, Vinyals, Kavukcuoglu (2017). Neural discrete representation learning. NeurIPS.
    """

    book: Tensor

    def __init__(
        self,
        plane: Sequence[int],
        num_codes: int,
        code_dim: int,
        width: int = 64,
        depth: int = 6,
        flat: bool = False,
        pythae: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.plane, self.flat = (int(plane[0]), int(plane[1])), bool(flat)
        rows, columns = self.plane
        self.shape: tuple[int, ...] = (rows * columns * code_dim,) if flat else (code_dim, rows, columns)
        self.register_buffer("book", torch.zeros(num_codes, code_dim))
        self.network: nn.Module = _MaskedNet(num_codes, width, depth) if pythae is None else _PixelCNN(pythae)

    def loss(self, codes: Tensor) -> Tensor:
        """Cross-entropy of planes of codes (batch, rows, columns) int64, in nats per code: what to train it with."""
        return functional.cross_entropy(self.network(codes), codes)

    @torch.no_grad()
    def forward(self, seeds: Sequence[int]) -> Tensor:
        """Latents (len(seeds), *shape) float32. Slow: one pass of the network per code."""
        rows, columns = self.plane
        drawn = torch.from_numpy(seeding.uniform(seeding.derive(list(seeds), seeding.NOISE), rows * columns))
        drawn = drawn.to(self.book.device)
        codes = torch.zeros(len(seeds), rows, columns, dtype=torch.int64, device=self.book.device)
        for row in range(rows):
            for column in range(columns):
                # Rows below do not matter yet: the masks are causal.
                logits = self.network(codes[:, : row + 1])[:, :, row, column]
                edges = logits.double().softmax(1).cumsum(1)
                below = edges < drawn[:, row * columns + column, None] * edges[:, -1:]
                codes[:, row, column] = below.sum(1).clamp_max_(edges.shape[1] - 1)
        return self.latents(codes)

    def latents(self, codes: Tensor) -> Tensor:
        """The latents (batch, *shape) float32 of planes of codes (batch, rows, columns)."""
        quantized = self.book[codes].float()
        return quantized.flatten(1) if self.flat else quantized.permute(0, 3, 1, 2).contiguous()


class _MaskedConv(nn.Conv2d):
    """A convolution that sees the rows above and the codes to the left; its own place too, if `here`."""

    mask: Tensor

    def __init__(self, inside: int, outside: int, size: int, *, here: bool) -> None:
        super().__init__(inside, outside, size, padding=size // 2)
        mask = torch.zeros(size, size)
        mask[: size // 2] = 1
        mask[size // 2, : size // 2 + here] = 1
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        return functional.conv2d(values, self.weight * self.mask, self.bias, padding=self.padding)


class _MaskedNet(nn.Module):
    def __init__(self, num_codes: int, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_codes, width)
        self.first = _MaskedConv(width, width, 7, here=False)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 1), nn.SiLU(), _MaskedConv(width, width, 3, here=True))
            for _ in range(depth)
        )
        self.last = nn.Sequential(nn.SiLU(), nn.Conv2d(width, num_codes, 1))

    def forward(self, codes: Tensor) -> Tensor:
        """(batch, rows, columns) int64 → logits (batch, num_codes, rows, columns)."""
        hidden = self.first(self.embed(codes).permute(0, 3, 1, 2))
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        logits: Tensor = self.last(hidden)
        return logits


class _PixelCNN(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        from torchgenaug.nets.flow_latents import pythae_flow

        self.model = pythae_flow(config)

    def forward(self, codes: Tensor) -> Tensor:
        weight = next(self.model.parameters())
        logits: Tensor = self.model({"data": codes[:, None].to(weight.dtype)})["out"].squeeze(2)
        return logits
