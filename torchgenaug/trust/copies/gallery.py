"""The search for the most similar image of a set, by each of three descriptors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from torchgenaug.trust.copies.blocks import orientations
from torchgenaug.trust.copies.describe import Described

Groups = npt.NDArray[np.int64] | None

_SPECTRUM_AXES, _BLOCK_AXES = 200, 96
"""Principal axes that are kept. Among 1,666 digits, copies with 5 % noise are then found at a rate of .997 in place of
.983; fewer lose scaled copies. The search takes two thirds of the time."""
_ENOUGH = 4  # images for each axis: the axes of few images would leave out what the others differ in


@dataclass(frozen=True, eq=False)
class Frame:
    """What descriptors are compared in: centred on a mean, so that what all images share does not count.

    Attributes:
        means: of the spectra, of the tapered spectra, and of the block means.
        bases: (features, axes) principal axes of each descriptor; None: it is compared as it is. Noise lies in all
            directions, images in few: what lies along the others is left out.
    """

    means: tuple[Tensor, Tensor, Tensor]
    bases: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None)

    @classmethod
    def of(cls, described: Described, *, reduced: bool = False) -> Frame:
        """The frame of a set; `reduced`: of its principal axes, where there are images enough to know them."""
        means = described.spectra.mean(0), described.tapered.mean(0), described.blocks.mean(0)
        if not reduced:
            return cls(means)
        spectra, tapered = described.spectra - means[0], described.tapered - means[1]
        blocks = (described.blocks - means[2]).flatten(1)
        bases = _axes(spectra, _SPECTRUM_AXES), _axes(tapered, _SPECTRUM_AXES), _axes(blocks, _BLOCK_AXES)
        return cls(means, bases)

    def spectra(self, spectra: Tensor) -> Tensor:
        """(n, features) → (n, axes) of length 1."""
        return _compared(spectra - self.means[0], self.bases[0])

    def tapered(self, spectra: Tensor) -> Tensor:
        """(n, features) → (n, axes) of length 1."""
        return _compared(spectra - self.means[1], self.bases[1])

    def blocks(self, blocks: Tensor) -> Tensor:
        """(n, *blocks) → (n, axes) of length 1."""
        return _compared((blocks - self.means[2]).flatten(1), self.bases[2])


def _axes(rows: Tensor, count: int) -> Tensor | None:
    if rows.shape[1] <= count or len(rows) < _ENOUGH * count:
        return None
    rows = rows.double()
    axes: Tensor = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -count:]
    return axes.float().contiguous()


def _compared(rows: Tensor, basis: Tensor | None) -> Tensor:
    return _unit(rows if basis is None else rows @ basis)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Descriptors to search in. Build it with `of`.

    Attributes:
        frame: what they are compared in.
        spectra: (n, features) float32 of length 1.
        tapered: (n, features) float32 of length 1.
        blocks: (n, blocks) float32 of length 1.
    """

    frame: Frame
    spectra: Tensor
    tapered: Tensor
    blocks: Tensor

    @classmethod
    def of(cls, described: Described, frame: Frame | None = None) -> Gallery:
        """A gallery of `described`, centred on its own mean or compared in another `frame`."""
        frame = Frame.of(described) if frame is None else frame
        return cls(
            frame, frame.spectra(described.spectra), frame.tapered(described.tapered), frame.blocks(described.blocks)
        )

    def __len__(self) -> int:
        return len(self.spectra)

    def rows(self, index: Tensor) -> Gallery:
        """A gallery of some of the images."""
        return Gallery(self.frame, self.spectra[index], self.tapered[index], self.blocks[index])

    def nearest(self, described: Described, *, own: Groups = None, mine: Groups = None) -> Nearest:
        """The most similar image of the gallery for each of `described`, by spectrum and by block means; exact.

        Args:
            described: n images.
            own: (len(self),) integers, a group for each image of the gallery.
            mine: (n,) integers; images of the same group do not count (an image itself, or its patient).
        """
        by_spectrum = _search([self.frame.spectra(described.spectra)], self.spectra, own, mine)
        turned = [each for each in orientations(described.blocks) if each.shape == described.blocks.shape]
        by_blocks = _search([self.frame.blocks(each) for each in turned], self.blocks, own, mine)
        return Nearest(*by_spectrum, *by_blocks)

    def nearest_tapered(
        self, described: Described, *, own: Groups = None, mine: Groups = None
    ) -> tuple[Tensor, Tensor]:
        """Distance to the most similar image by tapered spectrum, and its row, as `nearest`."""
        return _search([self.frame.tapered(described.tapered)], self.tapered, own, mine)

    def neighbours(self, described: Described, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Of the images of the gallery itself, by spectrum, tapered spectrum and block means: the nearest others.

        Yields:
            (n, count) distances in rising order, rounded to about 1e-7, and (n, count) rows.
        """
        turned = [each for each in orientations(described.blocks) if each.shape == described.blocks.shape]
        for variants, keys in (
            ([self.spectra], self.spectra),
            ([self.tapered], self.tapered),
            ([self.frame.blocks(each) for each in turned], self.blocks),
        ):
            yield _nearest_others(variants, keys, count)


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest images by two descriptors.

    Attributes:
        spectrum_distance: (n,) 1 - cosine, in [0, 2].
        spectrum_index: (n,) int64 row of the gallery; -1 where nothing may be compared.
        block_distance: (n,) 1 - cosine of the best orientation.
        block_index: (n,) int64.
    """

    spectrum_distance: Tensor
    spectrum_index: Tensor
    block_distance: Tensor
    block_index: Tensor


def _unit(rows: Tensor) -> Tensor:
    return functional.normalize(rows, dim=1, eps=1e-12)


_QUERIES, _KEYS = 1024, 1024
"""Similarities that are computed at a time: 4 MiB stay in the cache between the product and the search for the largest.
Blocks of 64 MiB took twice the time."""


def _search(variants: list[Tensor], keys: Tensor, own: Groups, mine: Groups) -> tuple[Tensor, Tensor]:
    """(distance, row) of the key with the largest cosine to any variant of each query."""
    count = len(variants[0])
    distance, index = torch.empty(count), torch.empty(count, dtype=torch.int64)
    groups = None if own is None or mine is None else (torch.as_tensor(own), torch.as_tensor(mine))
    memory = torch.empty((2, _QUERIES * _KEYS))  # fresh memory would cost as much as a product
    for start in range(0, count, _QUERIES):
        rows = slice(start, min(start + _QUERIES, count))
        queries = [variant[rows] for variant in variants]
        best = torch.full((len(queries[0]),), -torch.inf)
        where = torch.full((len(queries[0]),), -1, dtype=torch.int64)
        for first in range(0, len(keys), _KEYS):
            part = keys[first : first + _KEYS]
            size = len(queries[0]), len(part)
            largest, cosine = (each[: size[0] * size[1]].view(size) for each in memory)
            torch.mm(queries[0], part.T, out=largest)
            for query in queries[1:]:
                torch.maximum(largest, torch.mm(query, part.T, out=cosine), out=largest)
            if groups is not None:
                largest.masked_fill_(groups[1][rows, None] == groups[0][None, first : first + _KEYS], -torch.inf)
            value, place = largest.max(1)
            better = value > best
            best = torch.where(better, value, best)
            where = torch.where(better, place + first, where)
        # A product of rounded vectors loses the digits of small distances, where copies are: once more, directly.
        key = keys[where.clamp(min=0)].double()
        exact = torch.stack([(query.double() - key).square().sum(1) / 2 for query in queries]).amin(0)
        distance[rows] = torch.where(where < 0, torch.full_like(exact, torch.inf), exact).float()
        index[rows] = where
    return distance, index


def _nearest_others(variants: list[Tensor], keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(distances, rows) of the `count` keys with the largest cosines to any variant of each other key."""
    distances, rows = torch.empty((len(keys), count)), torch.empty((len(keys), count), dtype=torch.int64)
    for start in range(0, len(keys), _QUERIES):
        queries = [variant[start : start + _QUERIES] for variant in variants]
        best = torch.full((len(queries[0]), count), -torch.inf)
        where = torch.zeros((len(queries[0]), count), dtype=torch.int64)
        for first in range(0, len(keys), _KEYS):
            part = keys[first : first + _KEYS]
            largest = queries[0] @ part.T
            for query in queries[1:]:
                torch.maximum(largest, query @ part.T, out=largest)
            if first == start:  # blocks of queries and of keys are of one size
                largest.fill_diagonal_(-torch.inf)
            value, place = largest.topk(min(count, len(part)), dim=1)
            best, order = torch.cat([best, value], 1).topk(count, dim=1)
            where = torch.cat([where, place + first], 1).gather(1, order)
        distances[start : start + _QUERIES], rows[start : start + _QUERIES] = 1 - best, where
    return distances, rows
