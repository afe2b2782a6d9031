"""Several files that are the channels of one image: nnU-Net's numbers, contrasts as last words of names."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.listing import some
from torchgenaug.recipes.data.naming import CONTRASTS, Tokens, mask_bases
from torchgenaug.recipes.data.pairing import Named

_NUMBER = re.compile(r"\d{4}")


def join_channels(images: Sequence[Named], masks: Sequence[Named], folder: Path) -> tuple[list[Named], tuple[str, ...]]:
    """The images with the files of one image joined, and a sentence on how.

    Raises:
        ConfigurationError: images that lack one of the contrasts that others have.
    """
    for joined in (_numbered(images, masks, folder), _contrasts(images)):
        if joined is not None:
            return joined
    return list(images), ()


def nnunet_channels(folder: Path) -> Mapping[str, str] | None:
    """Number → name of the channels, of ``dataset.json`` in either version; None where there is none."""
    try:
        content: Any = json.loads((folder / "dataset.json").read_text(encoding="utf-8-sig"))
        named = content.get("channel_names") or content.get("modality") or {}
        return {str(number): str(name) for number, name in named.items()}
    except (OSError, ValueError, AttributeError):
        return None


def _numbered(
    images: Sequence[Named], masks: Sequence[Named], folder: Path
) -> tuple[list[Named], tuple[str, ...]] | None:
    if not images or not all(image.tokens and _NUMBER.fullmatch(image.tokens[-1]) for image in images):
        return None
    names = nnunet_channels(folder)
    wanted = {base for mask in masks for base in (mask.tokens, *mask_bases(mask.tokens))}
    if names is None and not any("imagestr" in image.key.casefold() for image in images):
        return None
    if any(image.tokens in wanted for image in images):
        return None  # the number is the name of the case, and no channel
    groups = _grouped(images)
    remark = "".join(f"channel {int(number)}: {name}, " for number, name in (names or {}).items()).rstrip(", ")
    return _joined(groups, f"nnU-Net's channel numbers; {remark}" if remark else "nnU-Net's channel numbers")


def _contrasts(images: Sequence[Named]) -> tuple[list[Named], tuple[str, ...]] | None:
    last = {image.tokens[-1] if image.tokens else "" for image in images}
    if len(last) < 2:
        return None
    if not last <= CONTRASTS:
        if len(last) <= 12 and last & CONTRASTS and all(image.stem.startswith("sub-") for image in images):
            raise ConfigurationError(
                f"Images must be of one kind, got the BIDS suffixes {', '.join(sorted(last))}. Choose one, for example "
                f"--images '**/*_{sorted(last & CONTRASTS)[0]}.*'."
            )
        return None
    groups = _grouped(images)
    return _joined(groups, f"contrasts {', '.join(sorted(last))}")


def _grouped(images: Sequence[Named]) -> dict[tuple[Tokens, Tokens], dict[str, Named]]:
    groups: dict[tuple[Tokens, Tokens], dict[str, Named]] = defaultdict(dict)
    for image in images:
        groups[image.place, image.tokens[:-1]][image.tokens[-1]] = image
    return groups


def _joined(
    groups: Mapping[tuple[Tokens, Tokens], Mapping[str, Named]], what: str
) -> tuple[list[Named], tuple[str, ...]]:
    every = sorted({channel for group in groups.values() for channel in group})
    lacking = [next(iter(group.values())).key for group in groups.values() if len(group) < len(every)]
    if lacking:
        everywhere = [channel for channel in every if all(channel in group for group in groups.values())]
        raise ConfigurationError(
            f"Every image must have the channels {', '.join(every)}, got fewer for {len(lacking)} of {len(groups)}: "
            f"{some(lacking)}. Complete them, or choose one kind, for example --images "
            f"'**/*{(everywhere or every)[0]}.*'{'' if everywhere else ' --masks none'}."
        )
    joined = []
    for (_, tokens), group in groups.items():
        first = group[every[0]]
        # What a mask is matched by is the name without the channel.
        stem = re.sub(rf"(?i)[\W_]*{re.escape(every[0])}$", "", first.stem)
        joined.append(replace(first, keys=tuple(group[name].key for name in every), tokens=tokens, stem=stem))
    if len(every) == 1:
        return joined, ()
    return joined, (f"Images are joined from {len(every)} files each, one per channel ({what}).",)
