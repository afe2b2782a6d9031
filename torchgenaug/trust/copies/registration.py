"""Registered comparison: how alike two images are once one has been shifted, flipped or turned onto the other.

Each image is seen through windows, at every shift of up to a tenth of its width; a training image is seen through the
middle window alone, in every orientation. The nearest pair of windows counts. What a shift moves out of a copy or into
it lies outside of the window, whatever it is.

References:
    Lewis (1995). Fast normalized cross-correlation. Vision Interface, 120-123 (the norm of every window from sums).
    Turk, Pentland (1991). Eigenfaces for recognition. J. Cogn. Neurosci. 3, 71-86 (principal axes of images).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from torchgenaug.trust.copies.blocks import orientations

_REACH = 0.1  # of the width: how far an image may be shifted
_AXES = 32
_ENOUGH = 4  # windows for each axis, at the least
_FITTED = 2048  # windows that tell the axes
_TOGETHER = 8  # images that are compared at a time: their products stay in the cache
_DESCRIBED = 256  # images whose windows are in memory: 6 kB each


@dataclass(frozen=True, eq=False)
class Registration:
    """What windows are compared in. Build it with `of`.

    Attributes:
        margins: pixels from the border to the middle window, along each axis.
        mean: (pixels,) of the middle windows.
        basis: (pixels, axes) principal axes.
    """

    margins: tuple[int, ...]
    mean: Tensor
    basis: Tensor

    @classmethod
    def of(cls, thumbnails: Tensor) -> Registration:
        """The frame of a set: (n, *spatial)."""
        margins = tuple(round(_REACH * length) for length in thumbnails.shape[1:])
        flat = torch.cat(_turned_middles(thumbnails, margins)).flatten(1)
        rows = _unit(flat[torch.linspace(0, len(flat) - 1, min(len(flat), _FITTED)).round().long()])
        mean = rows.mean(0)
        if rows.shape[1] <= _AXES or len(rows) < _ENOUGH * _AXES:
            return cls(margins, mean, torch.eye(rows.shape[1]))
        centred = (rows - mean).double()
        axes = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -_AXES:]
        return cls(margins, mean, axes.float().contiguous())

    def middles(self, thumbnails: Tensor) -> Tensor:
        """The middle window in each orientation: (n, *spatial) → (n, orientations, axes) of length 1."""
        turned = [
            _normal((_unit(each.flatten(1)) - self.mean) @ self.basis)
            for each in _turned_middles(thumbnails, self.margins)
        ]
        return torch.stack(turned, 1)

    def windows(self, thumbnails: Tensor) -> Tensor:
        """The windows at every shift: (n, *spatial) → (n, shifts, axes) of length 1."""
        side = tuple(length - 2 * margin for length, margin in zip(thumbnails.shape[1:], self.margins, strict=True))
        convolve = functional.conv2d if len(side) == 2 else functional.conv3d
        images = thumbnails.float()[:, None]
        kernels = torch.cat([self.basis, torch.ones(len(self.basis), 1)], 1).T.reshape(-1, 1, *side)
        products = convolve(images, kernels).flatten(2)
        pixels = len(self.basis)
        total, square = products[:, -1:], convolve(images.square(), kernels[-1:]).flatten(2)
        # A window of one value has no contrast but rounding.
        norm = (square - total.square() / pixels).clamp(min=1e-6 * pixels).sqrt()
        centred = products[:, :-1] - total / pixels * self.basis.sum(0)[:, None]
        return _normal((centred / norm - (self.mean @ self.basis)[:, None]).transpose(1, 2))


def nearest_registered(
    registration: Registration, thumbnails: Tensor, searched: Sequence[tuple[Tensor, Tensor]]
) -> list[tuple[Tensor, Tensor]]:
    """The most similar image of a shortlist, for each image, in each of several sets.

    Args:
        registration: the frame.
        thumbnails: (n, *spatial) of the images.
        searched: of each set (m, orientations, axes), its middle windows, and (n, k), rows of them; -1 for none.

    Returns:
        For each set (n,) distances, 1 - cosine; infinite where the shortlist is empty. (n,) rows; -1 there.
    """
    count = len(thumbnails)
    found = [(torch.full((count,), torch.inf), torch.full((count,), -1)) for _ in searched]
    for start in range(0, count, _DESCRIBED):
        windows = registration.windows(thumbnails[start : start + _DESCRIBED])
        for (middles, shortlist), (distances, indices) in zip(searched, found, strict=True):
            at = slice(start, start + len(windows))
            distances[at], indices[at] = _nearest_of(windows, middles, shortlist[at])
    return found


def _nearest_of(windows: Tensor, middles: Tensor, shortlist: Tensor) -> tuple[Tensor, Tensor]:
    """Distance and row of the nearest image of each shortlist: (n, shifts, axes), (m, orientations, axes), (n, k)."""
    (count, shifts, axes), length = windows.shape, shortlist.shape[1]
    best, flat = torch.empty(shortlist.shape), middles.flatten(1)
    # Fresh memory would cost more than the products.
    keys = torch.empty((_TOGETHER * length, flat.shape[1]))
    products = torch.empty((_TOGETHER, shifts, length * middles.shape[1]))
    for first in range(0, count, _TOGETHER):
        part = windows[first : first + _TOGETHER]
        rows = shortlist[first : first + len(part)].clamp(min=0).flatten()
        chosen, cosines = keys[: len(rows)], products[: len(part)]
        torch.index_select(flat, 0, rows, out=chosen)
        torch.bmm(part, chosen.view(len(part), -1, axes).transpose(1, 2), out=cosines)
        best[first : first + len(part)] = cosines.amax(1).view(len(part), length, -1).amax(2)
    value, place = best.masked_fill(shortlist < 0, -torch.inf).max(1)
    return (1 - value).clamp(min=0), shortlist.gather(1, place[:, None])[:, 0]


def _turned_middles(thumbnails: Tensor, margins: tuple[int, ...]) -> list[Tensor]:
    middle = thumbnails.float()[
        (slice(None), *(slice(at, side - at) for at, side in zip(margins, thumbnails.shape[1:], strict=True)))
    ]
    return [each for each in orientations(middle) if each.shape == middle.shape]


def _unit(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(1, keepdim=True)
    unit: Tensor = centred / torch.linalg.vector_norm(centred, dim=1, keepdim=True).clamp(
        min=1e-3 * rows.shape[1] ** 0.5
    )
    return unit


def _normal(rows: Tensor) -> Tensor:
    normal: Tensor = functional.normalize(rows, dim=-1, eps=1e-12)
    return normal
