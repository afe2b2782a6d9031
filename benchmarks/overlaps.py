"""Are images that a training and a test set share found, and are clean splits silent, when there are few images?

Sets as in `benchmarks.copies`: digits, slices of simulated patients, tiles of nuclei (places are split). In every tenth
split two test images are replaced by training images that were stored in another way.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from benchmarks.copies import images_of
from benchmarks.harness import publish
from torchgenaug.errors import MissingExtraError
from torchgenaug.trust import check_leaks

_SIZES = ((8, 8), (12, 12), (30, 10), (30, 360), (60, 200), (300, 150))
"""Training and test images of the clean splits: few of them do not tell what distances are usual."""


def _overlaps(name: str, size: int, count: int, others: int, splits: int) -> dict[str, Any]:
    images, patients = images_of(name, size)
    names = np.asarray(patients) if patients else np.arange(len(images))
    found: dict[str, list[bool]] = {kind: [] for kind in _RE_ENCODED}
    alarms = 0
    for seed in range(splits):
        draw = np.random.default_rng(seed)
        unique = draw.permutation(np.unique(names))
        halves = np.isin(names, unique[: len(unique) // 2])
        train = images[torch.from_numpy(draw.permutation(np.flatnonzero(halves))[:count])]
        test = images[torch.from_numpy(draw.permutation(np.flatnonzero(~halves))[:others])]
        alarms += bool(check_leaks(None, {"test": test}, train=train))
        if seed % 10 == 0:
            for kind, change in _RE_ENCODED.items():
                leaking = test.clone()
                leaking[:2] = change(train[:2])
                leaks = {(leak.index, leak.seen_as) for leak in check_leaks(None, {"test": leaking}, train=train).leaks}
                found[kind] += [(row, f"index {row}") in leaks for row in range(2)]
    planted = {kind: float(np.mean(each)) for kind, each in found.items()}
    return {"clean_splits": splits, "clean_splits_with_alarm": alarms, "planted_found": planted}


def _as_jpeg(images: Tensor, quality: int) -> Tensor:
    out = []
    for image in images:
        encoded = io.BytesIO()
        pixels = (image[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(encoded, "JPEG", quality=quality)
        out.append(torch.from_numpy(np.array(Image.open(encoded)))[None] / 255)
    return torch.stack(out)


_RE_ENCODED: dict[str, Callable[[Tensor], Tensor]] = {
    "6 bits, gain, mirrored": lambda images: ((images * 63).round() / 63 * 0.9).flip(2),
    "JPEG 75": lambda images: _as_jpeg(images, 75),
    "JPEG 50": lambda images: _as_jpeg(images, 50),
    "gamma 1.3": lambda images: images.clamp(0, 1) ** 1.3,
    "half the size": lambda images: functional.interpolate(
        functional.avg_pool2d(images, 2), scale_factor=2, mode="bilinear"
    ),
}


def measure(*, quick: bool = False) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name in ("digits",) if quick else ("digits", "brain", "nuclei"):
        try:
            results[name] = {
                f"{count} and {others} images": _overlaps(
                    name, 100 if quick else 700, count, others, 2 if quick else 100
                )
                for count, others in (_SIZES[:2] if quick else _SIZES)
            }
        except MissingExtraError as error:
            results[name] = {"not_measured": str(error)}
    return publish("overlaps", results, quick=quick)


if __name__ == "__main__":
    measure()
