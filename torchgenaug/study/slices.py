"""`Slices`: images with masks and ids in memory, as the built-in studies train on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset


class Slices(Dataset[dict[str, Tensor]]):
    """Samples ``{"image": (channels, height, width), "mask": (1, height, width)}``.

    Args:
        images: (n, channels, height, width).
        masks: (n, 1, height, width) int64.
        ids: one per slice.

    Attributes:
        trained_on: what the generator of the images was trained on; None for real ones.
    """

    trained_on: Any = None

    def __init__(self, images: Tensor, masks: Tensor, ids: Sequence[str]) -> None:
        self.images, self.masks, self.ids = images, masks, list(ids)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.images[index], "mask": self.masks[index]}
