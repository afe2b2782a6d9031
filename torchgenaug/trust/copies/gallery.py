"""The search for the most similar image of a set, by each descriptor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from torchgenaug.trust.copies.blocks import orientations
from torchgenaug.trust.copies.describe import Described
from torchgenaug.trust.copies.registration import Registration, nearest_registered
from torchgenaug.trust.copies.search import Groups, nearest_others, search, search_with_shortlist

_SPECTRUM_AXES, _BLOCK_AXES = 200, 48
"""Principal axes that are kept. Among 1,666 digits, copies with 5 % noise are then found at a rate of .997 in place of
.983; fewer lose scaled copies. The search takes two thirds of the time."""
_SHORTLIST = 128
"""Images that each one is registered to. Of 223 tiles of nuclei, the original of a copy that was shifted by 5 % is
among 64 at a rate of .995, of one that was shifted by 10 % at .90, and at .98 among 128."""
_ENOUGH = 4  # images for each axis: the axes of few images would leave out what the others differ in


@dataclass(frozen=True, eq=False)
class Frame:
    """What descriptors are compared in: centred on a mean, so that what all images share does not count.

    Attributes:
        means: of the spectra, of the tapered spectra, and of the block means.
        bases: (features, axes) principal axes of each descriptor; None: it is compared as it is. Noise lies in all
            directions, images in few: what lies along the others is left out.
        registration: what registered thumbnails are compared in; None: they are not.
    """

    means: tuple[Tensor, Tensor, Tensor]
    bases: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None)
    registration: Registration | None = None

    @classmethod
    def of(cls, described: Described, *, reduced: bool = False) -> Frame:
        """The frame of a set; `reduced`: of its principal axes, where there are images enough, and for registration."""
        means = described.spectra.mean(0), described.tapered.mean(0), described.blocks.mean(0)
        if not reduced:
            return cls(means)
        spectra, tapered = described.spectra - means[0], described.tapered - means[1]
        blocks = torch.cat([(each - means[2]).flatten(1) for each in _turned(described.blocks)])
        bases = _axes(spectra, _SPECTRUM_AXES), _axes(tapered, _SPECTRUM_AXES), _axes(blocks, _BLOCK_AXES)
        return cls(means, bases, Registration.of(described.thumbnails))

    def spectra(self, spectra: Tensor) -> Tensor:
        """(n, features) → (n, axes) of length 1."""
        return _compared(spectra - self.means[0], self.bases[0])

    def tapered(self, spectra: Tensor) -> Tensor:
        """(n, features) → (n, axes) of length 1."""
        return _compared(spectra - self.means[1], self.bases[1])

    def blocks(self, blocks: Tensor) -> Tensor:
        """(n, *blocks) → (n, axes) of length 1."""
        return _compared((blocks - self.means[2]).flatten(1), self.bases[2])

    def block_noise(self, described: Described) -> Tensor:
        """(n,) what the noise of each image is expected to add to its distances by block means."""
        rows = (described.blocks - self.means[2]).flatten(1)
        rows = rows if self.bases[2] is None else rows @ self.bases[2]
        pixels, blocks = described.thumbnails[0].numel(), described.blocks[0].numel()
        energy = rows.shape[1] * described.noise * min(1.0, blocks / pixels)
        return energy / (2 * rows.square().sum(1)).clamp(min=1e-12)


def _turned(blocks: Tensor) -> list[Tensor]:
    return [each for each in orientations(blocks) if each.shape == blocks.shape]


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
        middles: (n, orientations, axes) of `Registration`; empty where the frame has none.
    """

    frame: Frame
    spectra: Tensor
    tapered: Tensor
    blocks: Tensor
    middles: Tensor

    @classmethod
    def of(cls, described: Described, frame: Frame | None = None) -> Gallery:
        """A gallery of `described`, centred on its own mean or compared in another `frame`."""
        frame = Frame.of(described) if frame is None else frame
        spectra, tapered = frame.spectra(described.spectra), frame.tapered(described.tapered)
        middles = torch.empty(len(described), 0, 0)
        if frame.registration is not None:
            middles = frame.registration.middles(described.thumbnails)
        return cls(frame, spectra, tapered, frame.blocks(described.blocks), middles)

    def __len__(self) -> int:
        return len(self.spectra)

    def rows(self, index: Tensor) -> Gallery:
        """A gallery of some of the images."""
        parts = self.spectra, self.tapered, self.blocks, self.middles
        return Gallery(self.frame, *(part[index] for part in parts))

    def nearest(self, described: Described, *, own: Groups = None, mine: Groups = None) -> Nearest:
        """The most similar image of the gallery for each of `described`, by spectrum and by block means; exact.

        Args:
            described: n images.
            own: (len(self),) integers, a group for each image of the gallery.
            mine: (n,) integers; images of the same group do not count (an image itself, or its patient).
        """
        by_spectrum = search([self.frame.spectra(described.spectra)], self.spectra, own, mine)
        turned = _turned(described.blocks)
        by_blocks = search([self.frame.blocks(each) for each in turned], self.blocks, own, mine)
        return Nearest(*by_spectrum, *by_blocks)

    def nearest_tapered(
        self, described: Described, *, own: Groups = None, mine: Groups = None
    ) -> tuple[Tensor, Tensor]:
        """Distance to the most similar image by tapered spectrum, and its row, as `nearest`."""
        return search([self.frame.tapered(described.tapered)], self.tapered, own, mine)

    def neighbours(self, described: Described, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Of the images of the gallery itself, by spectrum, tapered spectrum and block means: the nearest others.

        Yields:
            (n, count) distances in rising order, rounded to about 1e-7, and (n, count) rows.
        """
        turned = _turned(described.blocks)
        for variants, keys in (
            ([self.spectra], self.spectra),
            ([self.tapered], self.tapered),
            ([self.frame.blocks(each) for each in turned], self.blocks),
        ):
            yield nearest_others(variants, keys, count)


def nearest_by_all(
    galleries: Sequence[Gallery], described: Described, groups: Sequence[tuple[Groups, Groups]]
) -> list[tuple[Tensor, Tensor]]:
    """The most similar image of each gallery, by spectrum, tapered spectrum, block means and registration.

    Registered to each image are the 128 of a gallery that are most similar by tapered spectrum.

    Args:
        galleries: in one frame, see `Frame.of`.
        described: n images.
        groups: `own` and `mine` of each gallery, see `Gallery.nearest`.

    Returns:
        For each gallery (4, n) distances and (4, n) rows; 3 where the frame has no registration.
    """
    if not galleries:
        return []
    tapered = galleries[0].frame.tapered(described.tapered)
    found, shortlists = [], []
    for gallery, (own, mine) in zip(galleries, groups, strict=True):
        near = gallery.nearest(described, own=own, mine=mine)
        *by_tapered, shortlist = search_with_shortlist([tapered], gallery.tapered, own, mine, _SHORTLIST)
        found.append(
            [
                (near.spectrum_distance, near.spectrum_index),
                (by_tapered[0], by_tapered[1]),
                (near.block_distance, near.block_index),
            ]
        )
        shortlists.append((gallery.middles, shortlist))
    registration = galleries[0].frame.registration
    if registration is not None:
        for each, registered in zip(
            found, nearest_registered(registration, described.thumbnails, shortlists), strict=True
        ):
            each.append(registered)
    return [(torch.stack([distance for distance, _ in each]), torch.stack([row for _, row in each])) for each in found]


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
