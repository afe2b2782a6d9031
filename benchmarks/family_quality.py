"""Quality, variety, obedience, copies and speed of one trained synthesizer, and its pictures."""

from __future__ import annotations

import functools
import json
import math
import time
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.brain_sizes import area_between, brain_area
from benchmarks.family_rows import EQUAL_ROWS, ROWS, UNIONS
from torchgenaug import (
    ShardSource,
    SyntheticMixDataset,
    SyntheticPool,
    SyntheticSequence,
    load_synthesizer,
    render_shards,
)
from torchgenaug.contracts import Synthesizer
from torchgenaug.metrics import (
    COVERAGE,
    ENERGY_DISTANCE,
    PRECISION,
    RECALL,
    FeatureSets,
    RadiomicsFeatures,
    compare_sets,
)
from torchgenaug.metrics.pairs.differences import peak_signal_to_noise_ratio
from torchgenaug.recipes import TrainingData, load_data
from torchgenaug.recipes.data.training_data import spread_rows
from torchgenaug.recipes.pairs import translation_quality
from torchgenaug.recipes.report import HeldOutConditions, Judge
from torchgenaug.study.networks import SmallClassifier
from torchgenaug.types import Batch

_SHOWN = 8
_CLASSIFIER_STEPS = 600
_MEASURES = (ENERGY_DISTANCE, PRECISION, RECALL, COVERAGE)


def judge_synthesizer(folder: Path, judge: Judge) -> dict[str, Any]:
    """What the synthesizer in `folder` makes of held-out conditions; its shards stay in ``folder/training``.

    Raises:
        RuntimeError: the shards or the pool hold other samples.
    """
    synthesizer = load_synthesizer(folder)
    began = time.process_time()
    samples = judge.samples(synthesizer)
    sampling = time.process_time() - began
    copied, too_much = judge.copied(samples)
    conditions = HeldOutConditions(judge.held_out, judge.condition)
    sequence = SyntheticSequence(synthesizer, conditions if conditions.names else None)
    render_shards(sequence, folder / "training" / "shards", 16, batch_size=16, shard_size=16, ranks=(0, 1))
    read = ShardSource(folder / "training" / "shards").read(np.arange(16))
    with closing(SyntheticPool(sequence, capacity=16, batch_size=16, background=False)) as pool:
        mixed = SyntheticMixDataset(judge.data.samples, pool, ratio=0.25, fields=("image",))
        served = pool.read(np.arange(16))
        mixed[0]
    for held in (read, served):
        if not torch.equal(held["image"], samples["image"][:16]):
            raise RuntimeError("Shards, pool and samples must be equal, and are not.")
    return {
        "data": judge.data.name,
        "dims": judge.data.spatial_dims,
        "shape": list(judge.data.image_shape),
        "condition": ", ".join(conditions.names) or "none",
        "distance": judge.distance(samples) / judge.floor,
        "distance_noise": judge.noise / judge.floor,
        "variety": _variety(samples["image"], samples.get("label")) / _variety_of(judge.data),
        "copied": None if math.isnan(copied) else copied,
        "copies_too_much": too_much,
        "samples_per_cpu_second": len(samples["image"]) / sampling,
        "measures": _measures(samples["image"], judge.held_out),
        **_obedience(synthesizer, samples, judge, conditions),
    }


def _measures(images: Tensor, held_out: TrainingData) -> dict[str, dict[str, float | None]]:
    """Value, floor (real against real) and ceiling (real against degraded) by radiomics-like features."""
    features = RadiomicsFeatures()
    rows = spread_rows(len(held_out), 2 * len(images))
    real = torch.stack([held_out.samples[row]["image"] for row in rows])
    limits = held_out.fields["image"].value_range or (0.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of small samples: n is in the row
        sets = FeatureSets.extract(features, real, images, value_range=limits)
        results = compare_sets(sets, _MEASURES, splits=5)
    return {
        measure.name: {"value": result.value, "floor": result.floor, "ceiling": result.ceiling, "n": result.n}
        for measure, result in zip(_MEASURES, results.values(), strict=True)
    }


def _obedience(
    synthesizer: Synthesizer, samples: Batch, judge: Judge, conditions: HeldOutConditions
) -> dict[str, float]:
    """How far the condition decides the image, and how much two samples of one condition differ."""
    told: dict[str, float] = {}
    names = conditions.names
    if not names:
        return told
    ids = list(range(16))
    given = conditions(ids)
    first, second = (synthesizer.synthesize([*range(base, base + 16)], given)["image"] for base in (0, 1000))
    real = torch.stack([judge.data.samples[row]["image"] for row in range(0, len(judge.data), len(judge.data) // 16)])
    pairs = (real[:, None] - real[None]).abs().flatten(2).mean(2)
    told["spread_of_condition"] = float((first - second).abs().mean() / pairs[pairs > 0].mean())
    if "label" in names:
        told |= _labels_obeyed(samples, judge)
    if names == ("source",):
        channels = judge.data.image_shape[0]
        if judge.data.fields["source"].shape[0] > channels:
            told |= _filled(synthesizer, judge, channels)
        else:
            quality = translation_quality(synthesizer, judge.data, judge.held_out)
            told |= {"psnr_db": quality["psnr_db"], "psnr_mean_image_db": quality["psnr_db_mean_image"]}
    return told


def _labels_obeyed(samples: Batch, judge: Judge) -> dict[str, float]:
    """Fraction of the samples that have the class that was wanted; of held-out images the same (the ceiling)."""
    real, labels = _stacked(judge.held_out, ("image", "label"))
    if judge.data.name == "brain-sizes":
        limit = area_between()
        decide = functools.partial(_is_large, limit=limit)
    else:
        decide = _classifier(judge.data.name, judge.data.image_shape[-1])
    return {
        "label_obeyed": float((decide(samples["image"]) == samples["label"]).float().mean()),
        "label_obeyed_by_real": float((decide(real) == labels).float().mean()),
    }


def _is_large(images: Tensor, limit: float) -> Tensor:
    return (brain_area(images) > limit).long()


@functools.cache
def _classifier(name: str, size: int) -> Any:
    """A classifier of the training images, as a function."""
    images, labels = _stacked(load_data(name, size=size), ("image", "label"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SmallClassifier(int(labels.max()) + 1)
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
        for _ in range(_CLASSIFIER_STEPS):
            rows = torch.randint(len(images), (64,))
            optimizer.zero_grad()
            functional.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
    return lambda each: network.eval()(each).argmax(1).detach()


def _filled(synthesizer: Synthesizer, judge: Judge, channels: int) -> dict[str, float]:
    """PSNR where something was hidden, beside that of the mean training image there."""
    images, sources = _stacked(judge.held_out, ("image", "source"))
    parts = [
        synthesizer.synthesize(list(range(k, min(k + 16, len(images)))), {"source": sources[k : k + 16]})["image"]
        for k in range(0, len(images), 16)
    ]
    made = torch.cat(parts)
    low, high = judge.data.fields["image"].value_range or (0.0, 1.0)
    marks = sources[:, channels:] > (low + high) / 2
    hidden = marks if marks.shape[1] == channels and channels > 1 else marks.any(1, keepdim=True).expand_as(images)
    mean = _stacked(judge.data, ("image",))[0].mean(0, keepdim=True).expand_as(images)
    return {"psnr_db": _psnr_in(made, images, hidden), "psnr_mean_image_db": _psnr_in(mean, images, hidden)}


def _psnr_in(images: Tensor, truth: Tensor, hidden: Tensor) -> float:
    return float(np.mean([_psnr(a[m], b[m]) for a, b, m in zip(images, truth, hidden, strict=True)]))


def _psnr(image: Tensor, truth: Tensor) -> float:
    return float(peak_signal_to_noise_ratio(truth[None], image[None], (0.0, 1.0)))


def _stacked(data: TrainingData, names: Sequence[str]) -> list[Tensor]:
    rows = [data.samples[row] for row in range(len(data))]
    return [torch.stack([row[name] for row in rows]) for name in names]


def _variety(images: Tensor, labels: Tensor | None) -> float:
    """Mean Euclidean distance between two images, of one class where there are labels."""
    flat = images.flatten(1).float()
    distances = torch.cdist(flat, flat)
    same = torch.ones_like(distances, dtype=torch.bool) if labels is None else labels[:, None] == labels
    same.fill_diagonal_(False)
    return float(distances[same].mean())


def _variety_of(data: TrainingData) -> float:
    rows = range(0, len(data), max(1, len(data) // 300))
    images = torch.stack([data.samples[row]["image"] for row in rows])
    labels = torch.stack([data.samples[row]["label"] for row in rows]) if "label" in data.fields else None
    return _variety(images, labels)


def draw(out: Path, path: Path) -> None:
    """Eight rendered samples of each row of the picture `path` that is in `out`; of volumes the middle slice."""
    from matplotlib.figure import Figure

    shown = [
        each
        for each in (*ROWS, *UNIONS, *EQUAL_ROWS)
        if each.picture == path.name and (out / each.name / "row.json").exists()
    ]
    if not shown:
        return
    figure = Figure(figsize=(2 * (_SHOWN + 1.8), (len(shown) + 1) // 2 * 1.02))
    halves = figure.subfigures(1, 2)
    for half, part in zip(halves, (shown[: (len(shown) + 1) // 2], shown[(len(shown) + 1) // 2 :]), strict=True):
        axes = half.subplots((len(shown) + 1) // 2, _SHOWN, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for line, each in zip(axes, part, strict=False):
            row = json.loads((out / each.name / "row.json").read_text())
            images = ShardSource(out / each.name / "training" / "shards").read(np.arange(_SHOWN))["image"]
            for axis, image in zip(line, images, strict=True):
                picture = image[-1] if image.ndim == 3 else image[0, :, :, image.shape[-1] // 2]
                axis.imshow(picture.rot90() if "brain" in row["data"] else picture, cmap="gray", vmin=0, vmax=1)
            text = f"{each.family}\n{row['data']}" + (f", {row['condition']}" if row["condition"] != "none" else "")
            line[0].text(-0.15, 0.5, text, transform=line[0].transAxes, ha="right", va="center")
        half.subplots_adjust(0.2, 0.005, 0.995, 0.995, 0.04, 0.04)
    figure.savefig(path, dpi=60)
