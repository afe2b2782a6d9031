"""Synthesizers of functions and transforms, for the smoke test: nothing in them is a network."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from torchgenaug import (
    FieldSpec,
    FunctionSynthesizer,
    LabelsToImageSynthesizer,
    RealFields,
    TransformedSynthesizer,
    TwoStageSynthesizer,
    seeding,
)

MASK = FieldSpec((1, 8, 8), torch.int64, kind="label_map", value_range=(0, 1))


def function(device: torch.device) -> Any:
    return FunctionSynthesizer(partial(drawn, device), {"image": FieldSpec((1, 8, 8))}, fingerprint="normal 1"), None


def drawn(device: torch.device, seeds: Any, conditions: Any = None) -> dict[str, Tensor]:
    return {"image": seeding.normal(seeds, (1, 8, 8), device=device)}


def transformed(device: torch.device) -> Any:
    real = [{"image": torch.full((1, 8, 8), k / 4)} for k in range(4)]
    originals = RealFields(real, "image")
    return TransformedSynthesizer(noisy, originals, fingerprint="noise 1"), originals


def noisy(sample: Any) -> Any:
    return {"image": sample["image"] + 0.1 * torch.rand(1, 8, 8)}


def two_stage(device: torch.device) -> Any:
    masks = FunctionSynthesizer(
        partial(mask, device),
        {"mask": MASK},
        fingerprint="masks 1",
    )
    painter = FunctionSynthesizer(partial(paint, device), {"image": FieldSpec((1, 8, 8))}, fingerprint="paint 1")
    return TwoStageSynthesizer(masks, painter), None


def mask(device: torch.device, seeds: Any, conditions: Any = None) -> dict[str, Tensor]:
    return {"mask": (seeding.normal(seeds, (1, 8, 8), device=device) > 0).long()}


def paint(device: torch.device, seeds: Any, conditions: Any) -> dict[str, Tensor]:
    return {"image": conditions["mask"].to(device) + 0.1 * seeding.normal(seeds, (1, 8, 8), device=device)}


def labels_to_image(device: torch.device) -> Any:
    """It paints on the CPU, whatever the device."""
    real = [{"mask": torch.arange(64).reshape(1, 8, 8) // (16 + k) % 2} for k in range(3)]
    return LabelsToImageSynthesizer(MASK), RealFields(real, "mask")
