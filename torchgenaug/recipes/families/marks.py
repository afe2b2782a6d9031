"""Images in [-1, 1] with a part left out: marks are 1 where it is hidden and -1 where it is given."""

from __future__ import annotations

import torch
from torch import Tensor


def hide(images: Tensor, marks: Tensor, *, modalities: bool = False) -> Tensor:
    """Images with what is marked set to -1, and the marks behind their channels.

    Args:
        images: (batch, channels, *spatial).
        marks: (batch, classes of a region, *spatial), which are united.
        modalities: there is a mark for each channel instead, which hides that channel alone.
    """
    hidden = marks > 0 if modalities else (marks > 0).any(1, keepdim=True)
    return torch.cat([torch.where(hidden, -1.0, images), marks], 1)
