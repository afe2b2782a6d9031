"""`mix_pictures`: pictures of a few real and synthetic samples of a study."""

from __future__ import annotations

import base64
import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug.contracts import SyntheticSource
from torchgenaug.pictures import contact_sheet
from torchgenaug.study.arms import Arm
from torchgenaug.study.splits import Split
from torchgenaug.types import FieldSpec

_SHOWN, _LARGEST_MASK = 8, 64


def mix_pictures(split: Split, arms: Sequence[Arm]) -> dict[str, str]:
    """Caption → PNG as a data URL: training samples of a split, and what each synthetic arm mixes in.

    Evenly spread over each set. Sets without images, and arms that share a source with an earlier one, are passed over;
    without Pillow there are no pictures.
    """
    if importlib.util.find_spec("PIL") is None:
        return {}
    shown: list[Any] = []
    pictures = {}
    for arm in arms:
        if arm.role == "control":
            continue
        source = None if arm.source is None else arm.source(split)
        if source is not None and not any(source is each for each in shown):
            shown.append(source)
            sheet = _sheet(_samples(source), "synthetic" if arm.role == "synthetic" else "real")
            if sheet:
                pictures[f"{arm.name}: what is mixed in"] = sheet
    real = _sheet(_samples(split.train), "real")
    return {"real training samples": real, **pictures} if real else pictures


def _samples(data: Any) -> list[dict[str, Tensor]]:
    rows = np.unique(np.linspace(0, len(data) - 1, _SHOWN).astype(np.int64))
    if isinstance(data, SyntheticSource):
        batch = data.read(rows)
        return [{name: values[k] for name, values in batch.items()} for k in range(len(rows))]
    samples = []
    for row in rows.tolist():
        sample = data[row]
        if not isinstance(sample, Mapping):
            sample = dict(zip(("image", "label"), sample, strict=False)) if isinstance(sample, Sequence) else {}
        samples.append({name: value for name, value in sample.items() if isinstance(value, Tensor)})
    return samples


def _sheet(samples: Sequence[Mapping[str, Tensor]], mark: str) -> str:
    fields = {}
    for name, value in samples[0].items():
        if value.ndim < 3:
            continue
        if value.is_floating_point():
            fields[name] = FieldSpec(tuple(value.shape))
        elif value.dtype == torch.int64 and int(value.max()) < _LARGEST_MASK:
            fields[name] = FieldSpec(tuple(value.shape), torch.int64, kind="label_map")
    if not fields:
        return ""
    rows = [{name: sample[name] for name in fields} for sample in samples]
    with tempfile.TemporaryDirectory() as folder:
        path = contact_sheet(rows, fields, Path(folder, "sheet.png"), marks=[mark] * len(rows), columns=4)
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
