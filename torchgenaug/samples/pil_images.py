"""PIL images in samples, as torchvision's data sets return them: recognised, and made from tensors."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from torch import Tensor

_COLOURS = {"L": 1, "P": 1, "1": 1, "F": 1, "I": 1, "I;16": 1, "RGB": 3, "RGBA": 4}


def is_picture(value: object) -> bool:
    """Whether `value` is a `PIL.Image.Image`, without importing PIL."""
    image = sys.modules.get("PIL.Image")
    return image is not None and isinstance(value, image.Image)


def hollow_picture(picture: Any) -> Any:
    """One pixel of the same mode and palette."""
    return picture.resize((1, 1)) if picture.mode in ("P", "1") else picture.crop((0, 0, 1, 1))


def channels_of(picture: Any) -> int | None:
    """How many channels a tensor must have to become a picture of this mode; None: of no number."""
    return _COLOURS.get(picture.mode)


def is_8_bit(picture: Any) -> bool:
    """Whether the numbers of a picture of this mode are grey levels, 0 to 255."""
    return picture.mode in ("L", "P", "1", "RGB", "RGBA")


def picture_like(like: Any, values: Tensor) -> Any:
    """A picture of the mode of `like` from (channels, height, width) numbers that the mode can hold."""
    from PIL import Image

    array = values.numpy()
    array = np.moveaxis(array, 0, -1) if array.shape[0] in (3, 4) else array[0]
    if like.mode == "1":
        return Image.fromarray(array.astype(np.uint8) * 255).convert("1")
    if like.mode == "P":
        picture = Image.frombytes("P", array.shape[::-1], np.ascontiguousarray(array, np.uint8).tobytes())
        if like.getpalette() is not None:
            picture.putpalette(like.getpalette())
        return picture
    kind = {"F": np.float32, "I": np.int32, "I;16": np.uint16}.get(like.mode, np.uint8)
    return Image.fromarray(np.ascontiguousarray(array, kind))
