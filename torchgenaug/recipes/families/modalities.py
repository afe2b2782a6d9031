"""Images of several modalities of which some are left out: the data of ``mm-gan`` and ``mm-ddpm``.

A modality is one channel, or several that are there or missing together, such as the colours of a photograph.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.derived import derived
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.settings import Setting
from torchgenaug.seeding import derive, uniform
from torchgenaug.types import FieldSpec

FILLED = "FillMissing(data set, synthesizer, source=[modalities in the order of the channels]).sequence.conditions"
_EACH = "each"
SETTING = {
    "modalities": Setting(
        _EACH, "channels of each modality in order, such as 1,3: grey and colour; each: every channel is one"
    )
}
"""The setting of families that fill modalities."""
_COLOURS = 3
_ALONE = "there is nothing to fill: put the other modality into a folder sources/ next to images/"
_LEAST_SHARE = 0.02  # of the common range: what a modality's own range must span to be seen


def with_hidden_modalities(data: TrainingData, options: Options) -> TrainingData:
    """The data with all modalities as ``image``, and as ``source`` a part of them with marks of what is missing.

    Where the data have sources, those come first. Sample k lacks one modality or more, a function of k.

    Raises:
        ConfigurationError: fewer than two modalities, a setting that does not fit the channels, or ranges that do not
            go together.
    """
    image, source = data.fields["image"], data.fields.get("source")
    parts = ("source", "image") if source is not None else ("image",)
    channels = {name: data.fields[name].shape[0] for name in parts}
    count = sum(channels.values())
    if count < 2:
        raise ConfigurationError(
            f"The images must have at least two modalities for this family, as channels or as sources, got "
            f"{data.image_shape} of {data.name!r} without sources. Put the modalities of a patient into one image."
        )
    groups = _checked_groups(options, channels)
    limits = [data.fields[name].value_range or (0.0, 1.0) for name in parts]
    low, high = min(each[0] for each in limits), max(each[1] for each in limits)
    if min(each[1] - each[0] for each in limits) < _LEAST_SHARE * (high - low):
        raise ConfigurationError(
            f"Source and image must have ranges of one order for this family, got {limits}. The narrower one would be "
            "all but constant in the range of both. Rescale the files."
        )
    shape = image.shape[1:]
    fields = {
        "image": FieldSpec((count, *shape), value_range=(low, high)),
        "source": FieldSpec((2 * count, *shape), value_range=(low, high)),
    }
    return derived(data, fields, partial(_hide_some, parts=parts, groups=groups, low=low, high=high))


def groups_of(options: Options, channels: int) -> tuple[int, ...]:
    """Channels of each modality of images that `with_hidden_modalities` returned."""
    text = str(options.settings["modalities"])
    return (1,) * channels if text == _EACH else tuple(map(int, text.split(",")))


def marks_of_some(images: Tensor, groups: Sequence[int]) -> Tensor:
    """Marks of a random part of the modalities of each image, of their shape: 1 where it is hidden, else -1.

    Args:
        images: (batch, channels, *spatial).
        groups: channels of each modality.
    """
    shape, device = (len(images), len(groups)), images.device
    hidden = _spread(_hidden(torch.rand(shape, device=device), torch.rand(len(images), device=device)), groups)
    return hidden.to(images.dtype).mul(2).sub(1)[(...,) + (None,) * (images.ndim - 2)].expand_as(images)


def _checked_groups(options: Options, channels: Mapping[str, int]) -> tuple[int, ...]:
    """Channels of each modality, in the order of the fields; what is guessed is stated.

    Args:
        options: with the setting.
        channels: of each field.

    Raises:
        ConfigurationError: other channels than the fields have, a modality in two fields, or only one.
    """
    text, counts = str(options.settings["modalities"]), list(channels.values())
    fields = " and ".join(f"{count} of {name!r}" for name, count in channels.items())
    several = len(counts) > 1
    parts = [str(count) if several and count == _COLOURS else ",".join("1" * count) for count in counts]
    coloured, plain = f"--set modalities={','.join(parts)}", f"--set modalities={','.join('1' * sum(counts))}"
    if text == _EACH:
        if _COLOURS in counts:
            warnings.warn(
                f"The channels ({fields}) count as {sum(counts)} modalities, each of which may be missing alone. If "
                f"three of them are the colours of one image, {f'give {coloured}' if several else _ALONE}. If not, "
                f"{plain} leaves this line out.",
                stacklevel=4,
            )
        return (1,) * sum(counts)
    try:
        groups = tuple(map(int, text.split(",")))
    except ValueError:
        groups = ()
    ends, borders = set(itertools.accumulate(groups)), set(itertools.accumulate(counts))
    if len(groups) < 2 or min(groups) < 1 or sum(groups) != sum(counts) or not borders <= ends:
        raise ConfigurationError(
            f"`modalities` must be the numbers of channels of two or more modalities in order, {sum(counts)} in all "
            f"({fields}), got {text!r}. For example: {coloured}"
        )
    return groups


def _spread(values: Tensor, groups: Sequence[int]) -> Tensor:
    """Values (batch, modalities) as (batch, channels)."""
    return values.repeat_interleave(torch.tensor(groups, device=values.device), 1)


def _hidden(order: Tensor, share: Tensor) -> Tensor:
    """Which modalities are hidden, bool (batch, modalities): one to all but one, each number equally often.

    Args:
        order: (batch, modalities) distinct numbers: the smallest are hidden.
        share: (batch,) in [0, 1), decides how many.
    """
    modalities = order.shape[1]
    count = 1 + (share * (modalities - 1)).long().clamp(max=modalities - 2)
    return order.argsort(1).argsort(1) < count[:, None]


def _hide_some(
    index: int,
    sample: Mapping[str, Tensor],
    *,
    parts: tuple[str, ...],
    groups: tuple[int, ...],
    low: float,
    high: float,
) -> dict[str, Tensor]:
    image = torch.cat([sample[name] for name in parts])
    drawn = torch.from_numpy(uniform(derive(0, [index]), len(groups) + 1))
    hidden = _spread(_hidden(drawn[:, 1:], drawn[:, 0]), groups)[0][(...,) + (None,) * (image.ndim - 1)]
    marks = torch.where(hidden, high, low).to(image.dtype).expand_as(image)
    return {**sample, "image": image, "source": torch.cat([torch.where(hidden, low, image), marks])}
