"""`contact_sheet`: writes samples as one PNG, each image next to its label map."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.errors import ConfigurationError, missing_extra
from torchgenaug.types import FieldSpec
from torchgenaug.whole_files import write_whole

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Pixels = npt.NDArray[np.uint8]

# Okabe, Ito (2008), "Color universal design": distinguishable with every common kind of colour blindness.
_PALETTE = np.array(
    [
        [28, 28, 32],
        [230, 159, 0],
        [86, 180, 233],
        [0, 158, 115],
        [240, 228, 66],
        [0, 114, 178],
        [213, 94, 0],
        [204, 121, 167],
    ],
    np.uint8,
)
_MARK_COLOURS = {"real": (86, 180, 233), "synthetic": (230, 159, 0)}
_BACKGROUND, _CARD, _TEXT = (18, 18, 20), (34, 34, 38), (200, 200, 205)
_PANEL, _GAP, _BORDER, _MAX_CHANNELS = 128, 6, 3, 4


def contact_sheet(
    samples: Iterable[Mapping[str, Any]],
    fields: Mapping[str, FieldSpec],
    path: str | os.PathLike[str],
    *,
    marks: Sequence[str] | None = None,
    columns: int | None = None,
    rotate: int = 0,
    class_names: Sequence[str] = (),
) -> Path:
    """Draws each sample's images and label maps side by side, with a caption, and writes one PNG.

    Intensities are grey: the field's value range, or where it has none the 1st to 99th percentile of the sheet. Label
    maps have fixed colours. Three channels are red, green and blue; of any other number up to four are drawn. Volumes
    show their three middle slices. The caption holds the single numbers among the fields, and ``id`` and ``seed``
    where a sample has them.

    Args:
        samples: dicts of tensors (channels, *spatial) or numbers, such as `SyntheticMixDataset` hands out.
        fields: what they hold; fields that a sample lacks are passed over.
        path: of the PNG.
        marks: ``"real"`` or ``"synthetic"`` per sample: a coloured frame and the word.
        columns: samples per row; default: a sheet somewhat wider than high.
        rotate: counter-clockwise quarter turns of every slice. Medical arrays are often (x, y): 1 turns them upright.
        class_names: names of the classes 0, 1, … of the field ``label``, for the captions.

    Returns:
        `path`.

    Raises:
        ConfigurationError: no samples, nothing to draw, marks that do not fit, or no columns.
        MissingExtraError: Pillow is not installed.
    """
    rows = list(samples)
    drawn = [name for name, spec in fields.items() if len(spec.shape) >= 2]
    if not rows or not drawn:
        raise ConfigurationError(
            f"`samples` and `fields` must hold something to draw, got {len(rows)} samples and the image fields {drawn}."
        )
    if marks is not None and (len(marks) != len(rows) or not set(marks) <= _MARK_COLOURS.keys()):
        raise ConfigurationError(
            f"`marks` must be 'real' or 'synthetic' for each of {len(rows)} samples, got {list(marks)}."
        )
    if columns is not None and columns < 1:
        raise ConfigurationError(f"`columns` must be at least 1, got {columns}.")
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise missing_extra("A contact sheet", package="pillow", extra="demo") from error
    limits = {name: _limits([row[name] for row in rows if name in row], fields[name]) for name in drawn}
    cards = [
        _card(
            row,
            [n for n in drawn if n in row],
            fields,
            limits,
            rotate,
            None if marks is None else marks[k],
            _caption(row, fields, class_names),
        )
        for k, row in enumerate(rows)
    ]
    width, height = max(card.width for card in cards), max(card.height for card in cards)
    if columns is None:
        columns = max(1, round(math.sqrt(1.6 * len(cards) * height / width)))
    columns = min(columns, len(cards))
    num_rows = -(-len(cards) // columns)
    sheet = Image.new(
        "RGB", (columns * (width + 2 * _GAP) + 2 * _GAP, num_rows * (height + 2 * _GAP) + 2 * _GAP), _BACKGROUND
    )
    for k, card in enumerate(cards):
        left, top = k % columns * (width + 2 * _GAP) + 2 * _GAP, k // columns * (height + 2 * _GAP) + 2 * _GAP
        sheet.paste(card, (left, top))
        if marks is not None:
            frame = (left - _BORDER, top - _BORDER, left + width + _BORDER - 1, top + height + _BORDER - 1)
            ImageDraw.Draw(sheet).rectangle(frame, outline=_MARK_COLOURS[marks[k]], width=_BORDER)
    content = io.BytesIO()
    sheet.save(content, "PNG", compress_level=3)  # less than half of the default's time, and hardly larger
    return write_whole(path, content.getvalue())


def _card(
    row: Mapping[str, Any],
    drawn: Sequence[str],
    fields: Mapping[str, FieldSpec],
    limits: Mapping[str, tuple[float, float]],
    rotate: int,
    mark: str | None,
    caption: str,
) -> Image:
    """One sample: its panels in a row, its caption below."""
    from PIL import Image, ImageDraw, ImageFont

    panels = []
    for name in drawn:
        is_labels = fields[name].kind == "label_map"
        for pixels in _panels(_array(row[name]), is_labels, limits[name]):
            panel = Image.fromarray(np.ascontiguousarray(np.rot90(pixels, rotate)))
            longest = max(panel.size)
            # Whole factors keep the pixels of small pictures square; large ones shrink.
            scale = max(1, round(_PANEL / longest)) if longest < 1.5 * _PANEL else 1.5 * _PANEL / longest
            size = (max(1, round(panel.width * scale)), max(1, round(panel.height * scale)))
            resampling = Image.Resampling.NEAREST if is_labels else Image.Resampling.BICUBIC
            panels.append(panel.resize(size, resampling))
    font = ImageFont.load_default(12)
    pictures_width = sum(panel.width for panel in panels) + _GAP * max(0, len(panels) - 1)
    words_width = math.ceil(font.getlength("  ".join(filter(None, (mark, caption)))))
    line = 20 if caption or mark else 0
    picture_height = max((panel.height for panel in panels), default=0)
    card = Image.new("RGB", (max(pictures_width, words_width + 8, 1), max(picture_height + line, 1)), _CARD)
    left = (card.width - pictures_width) // 2
    for panel in panels:
        card.paste(panel, (left, (picture_height - panel.height) // 2))
        left += panel.width + _GAP
    draw: ImageDraw.ImageDraw = ImageDraw.Draw(card)
    _write_caption(draw, (4, picture_height + 3), mark, caption, font)
    return card


def _write_caption(draw: ImageDraw, at: tuple[float, float], mark: str | None, caption: str, font: Any) -> None:
    x, y = at
    if mark is not None:
        draw.text((x, y), mark, fill=_MARK_COLOURS[mark], font=font)
        x += font.getlength(mark + "  ")
    draw.text((x, y), caption, fill=_TEXT, font=font)


def _caption(row: Mapping[str, Any], fields: Mapping[str, FieldSpec], class_names: Sequence[str]) -> str:
    parts = []
    for name, spec in fields.items():
        if not spec.shape and name in row:
            value = _array(row[name]).item()
            if name == "label" and isinstance(value, int) and 0 <= value < len(class_names):
                parts.append(class_names[value])
            else:
                parts.append(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}")
    if "id" in row:
        parts.append(f"id {int(row['id'])}")
    if "seed" in row:
        # Eight hexadecimal digits tell samples apart; all sixteen would not fit below a picture.
        parts.append(f"seed {int(row['seed']) % (1 << 64):016x}"[:13])
    return "  ".join(parts)


def _array(value: Any) -> npt.NDArray[Any]:
    if not isinstance(value, torch.Tensor | np.ndarray | int | float):
        value = value.data  # a torchio image
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
    return np.asarray(value)


def _limits(values: Sequence[Any], spec: FieldSpec) -> tuple[float, float]:
    if spec.kind == "label_map" or not values:
        return (0.0, 1.0)
    if spec.value_range is not None:
        return spec.value_range
    everything = np.concatenate([_array(value).astype(np.float32).ravel() for value in values])
    low, high = np.nanpercentile(everything, [1, 99])
    return float(low), float(high) if high > low else float(low) + 1


def _panels(array: npt.NDArray[Any], is_labels: bool, limits: tuple[float, float]) -> list[Pixels]:
    """(channels, *spatial) → pictures (height, width, 3)."""
    channels = [_slices(channel) for channel in array]
    if is_labels:
        return [_coloured(picture) for pictures in channels[:_MAX_CHANNELS] for picture in pictures]
    low, high = limits
    grey = [
        [
            np.clip((picture.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
            for picture in pictures
        ]
        for pictures in channels
    ]
    if len(grey) == 3:
        return [np.stack(bands, axis=-1) for bands in zip(*grey, strict=True)]
    return [np.repeat(picture[..., None], 3, axis=-1) for pictures in grey[:_MAX_CHANNELS] for picture in pictures]


def _slices(channel: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """A picture as it is, a volume by its three middle slices; axes of size 1 do not count."""
    thin = tuple(axis for axis, size in enumerate(channel.shape) if size == 1)
    channel = channel.squeeze(thin[: max(0, channel.ndim - 2)][::-1]) if channel.ndim > 2 else channel
    if channel.ndim == 1:
        return [channel[None]]
    if channel.ndim == 2:
        return [channel]
    return [channel.take(channel.shape[axis] // 2, axis) for axis in range(channel.ndim - 1, channel.ndim - 4, -1)]


def _coloured(labels: npt.NDArray[Any]) -> Pixels:
    classes = labels.astype(np.int64)
    colours: Pixels = _PALETTE[np.where(classes > 0, (classes - 1) % (len(_PALETTE) - 1) + 1, 0)]
    return colours
