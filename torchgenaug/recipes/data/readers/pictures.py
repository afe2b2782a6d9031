"""Pictures that Pillow reads: PNG, JPEG, BMP, GIF, WebP, PGM, … and PNG of 48 bits through SimpleITK."""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from torchgenaug.errors import missing_extra
from torchgenaug.recipes.data.readers.decoded import TURNS, Array, Decoded

_ANIMATED = ("GIF", "WEBP", "PNG", "TIFF")  # the second frame of a telephone's JPEG is its preview
_TRANSPOSED = "EXIF orientation was applied"
_TRANSPARENT = "transparency, which varies, was left out"
_PIXMAP = re.compile(rb"P6(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")


def read_picture(path: Path) -> Decoded:
    """(colours, height, width), or (colours, frames, height, width) of an animation; alpha is left out."""
    return _read(path, numbers=False)


def read_picture_numbers(path: Path) -> Decoded:
    """The same for a mask: of a coloured palette the numbers count, of a grey one the greys."""
    return _read(path, numbers=True)


def _read(path: Path, *, numbers: bool) -> Decoded:
    try:
        from PIL import Image, ImageOps, ImageSequence
    except ImportError as error:
        raise missing_extra(f"A {path.suffix} file", package="pillow", extra="fit") from error
    depth, colour_type = _png_header(path)
    if depth == 16 and colour_type in (2, 6):  # Pillow reduces colours to 8 bits
        return _deep_png(path)
    if depth == 16 and colour_type == 4:
        return _deep_grey(path)
    deep = _deep_colours(path)
    if deep is not None:
        return Decoded(deep)
    with Image.open(path) as opened:
        if getattr(opened, "n_frames", 1) > 1 and opened.format in _ANIMATED:
            frames = _alike([_plain(frame.copy(), numbers) for frame in ImageSequence.Iterator(opened)])
            return Decoded(
                _first(np.stack(frames), axes=3), notes=("frames of an animation became planes of a volume",)
            )
        notes = []
        orientation = opened.getexif().get(0x0112, 1)
        maximum = _maximum(path) if opened.format == "PPM" else 0
        if maximum > 255 and opened.mode == "RGB":  # text; what is binary was read above
            notes.append("values of more than 8 bits were read as 8 bits")
        notes += _colour_notes(opened)
        picture: Any = opened
        if orientation in range(2, 9):
            opened.load()  # newer versions of Pillow turn a TIFF here, and forget its orientation
            picture = ImageOps.exif_transpose(opened)
            notes.append(_TRANSPOSED)
        values = _first(np.asarray(_plain(picture, numbers)), axes=2)
        if maximum > 255 and opened.mode == "I":  # Pillow stretches what the file holds to 16 bits
            values = np.round(values * (maximum / 65535)).astype(values.dtype)
        return Decoded(values, notes=tuple(notes))


def _colour_notes(picture: Any) -> list[str]:
    """What a picture loses where it is read as grey or RGB."""
    if picture.mode == "CMYK":
        return ["CMYK was converted to RGB"]
    if picture.mode in ("RGBA", "LA", "PA"):
        low, high = picture.getchannel("A").getextrema()
        return [] if low == high else [_TRANSPARENT]
    return []


def _plain(picture: Any, numbers: bool) -> Any:
    """The picture in a mode whose array holds grey or RGB values (or, of a coloured palette, numbers)."""
    if picture.mode in ("P", "PA"):
        colours = np.asarray(picture.convert("RGB"))
        if (colours == colours[..., :1]).all():
            return picture.convert("L")
        return picture.convert("P") if numbers and picture.mode == "P" else picture.convert("RGB")
    if picture.mode in ("RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "RGBa"):
        return picture.convert("RGB")
    return picture.convert("L") if picture.mode in ("LA", "La", "1") else picture


def _alike(frames: list[Any]) -> list[Array]:
    """Frames as arrays of one shape: the first of a grey GIF is grey, later ones have colours that are grey."""
    if len({frame.mode for frame in frames}) == 1:
        return [np.asarray(frame) for frame in frames]
    arrays = [np.asarray(frame.convert("RGB")) for frame in frames]
    if all(bool((array == array[..., :1]).all()) for array in arrays):
        return [array[..., 0] for array in arrays]
    return arrays


def _first(array: Array, axes: int) -> Array:
    return np.moveaxis(array, -1, 0) if array.ndim > axes else array[None]


def _png_header(path: Path) -> tuple[int, int]:
    """Bits per sample and colour type of a PNG: 0 grey, 2 colours, 3 palette, 4 grey and alpha, 6 colours and alpha."""
    with path.open("rb") as file:
        head = file.read(26)
    return (head[24], head[25]) if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) == 26 else (0, 0)


def _deep_png(path: Path) -> Decoded:
    import SimpleITK

    pixels: Array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="PNGImageIO"))
    return _without_alpha(np.moveaxis(pixels, -1, 0), 3, path)


def _deep_grey(path: Path) -> Decoded:
    """A PNG of 16-bit grey with alpha, which neither Pillow nor SimpleITK reads whole.

    Its four bytes a pixel are those of 8-bit colours with alpha, and filters and interlacing of PNG know bytes alone:
    with another header Pillow decodes them.
    """
    from PIL import Image

    content = bytearray(path.read_bytes())
    content[24:26] = 8, 6
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with Image.open(io.BytesIO(content)) as opened:
        pixels = np.asarray(opened).view(">u2").astype(np.uint16)
    return _without_alpha(np.moveaxis(pixels, -1, 0), 1, path)


def _without_alpha(pixels: Array, colours: int, path: Path) -> Decoded:
    """The first channels, turned as the file states, and what was changed."""
    from PIL import Image

    varies = bool((np.ptp(pixels[colours:], (1, 2)) > 0).any())
    with Image.open(path) as opened:
        turn = TURNS.get(opened.getexif().get(0x0112, 1))
    notes = [_TRANSPARENT] * varies + [_TRANSPOSED] * (turn is not None)
    values = pixels[:colours]
    return Decoded(values if turn is None else turn(values), notes=tuple(notes))


def _deep_colours(path: Path) -> Array | None:
    """(3, height, width) uint16 of a binary PPM of more than 8 bits, which Pillow reduces; None of other files."""
    with path.open("rb") as file:
        head = _PIXMAP.match(file.read(4096))
        if head is None or int(head[3]) < 256:
            return None
        width, height = int(head[1]), int(head[2])
        file.seek(head.end())
        values = np.frombuffer(file.read(6 * width * height), ">u2").astype(np.uint16)
    return np.moveaxis(values.reshape(height, width, 3), -1, 0)


def _maximum(path: Path) -> int:
    """The largest value that a PPM states."""
    with path.open("rb") as file:
        words = [word for line in file.read(512).split(b"\n") for word in line.split(b"#")[0].split()]
    return int(words[3]) if len(words) > 3 and words[3].isdigit() else 255
