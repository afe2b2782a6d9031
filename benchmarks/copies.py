"""How many planted copies does `CopyDetector` find, at how many false alarms, how fast?

Sets: digits; simulated patients (one brain, deformed each time) in 2D and 3D; tiles of nuclei (the same field over ten
frames, so places are split, and the frames of a place are one patient). Copies are planted from the training images;
false alarms are counted on a third set of real images, as on the images of an honest model, and averaged over thirty
splits: the images of one brain are alike, and so the alarms of one split come in groups. The same with noise on them,
as a model may leave it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import publish
from torchgenaug.datasets import brain, brain_volumes, digits, nuclei
from torchgenaug.errors import MissingExtraError
from torchgenaug.trust import CopyDetector

_RECALLED = 3  # splits in which copies are planted, 300 of each kind

Split = tuple[Tensor, Tensor, Tensor, list[str] | None]


def _deformed(images: Tensor, draw: torch.Generator, *, scales: tuple[float, float], amplitude: float) -> Tensor:
    """Each image with its own affine and elastic deformation, half of them mirrored."""
    count, dims = len(images), images.ndim - 2
    turn = (torch.rand(count, generator=draw) * 2 - 1) * math.radians(8)
    scale = scales[0] + (scales[1] - scales[0]) * torch.rand((count, dims), generator=draw)
    matrix = torch.eye(dims).repeat(count, 1, 1)
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1] = turn.cos(), -turn.sin(), turn.sin(), turn.cos()
    shift = (torch.rand((count, dims, 1), generator=draw) * 2 - 1) * 0.05
    grid = functional.affine_grid(torch.cat([matrix / scale[:, None], shift], 2), list(images.shape), False)
    coarse = (torch.rand((count, dims, *[7] * dims), generator=draw) * 2 - 1) * amplitude
    mode = "bicubic" if dims == 2 else "trilinear"
    fine = functional.interpolate(coarse, images.shape[2:], mode=mode, align_corners=True)
    out = functional.grid_sample(images, grid + fine.movedim(1, -1), align_corners=False)
    mirrored = torch.rand(count, generator=draw) < 0.5
    out[mirrored] = out[mirrored].flip(2)
    return out


def _brains(count: int, draw: torch.Generator) -> Tensor:
    slices = torch.from_numpy(brain.load_volumes())[0].movedim(-1, 0)[:, None]
    rows = torch.randint(0, len(slices), (count,), generator=draw)
    parts = [_deformed(slices[part], draw, scales=(0.88, 1.1), amplitude=9 / 96) for part in rows.split(100)]
    return torch.cat([functional.avg_pool2d(part, 3) for part in parts]).clamp(0, 1)


def _volumes(count: int, draw: torch.Generator) -> Tensor:
    template = functional.adaptive_avg_pool3d(
        functional.pad(torch.from_numpy(brain.read_maps(brain_volumes._WINDOW)), (brain_volumes._BELOW, 0))[:1],
        (64, 80, 64),
    )
    parts = [
        _deformed(template.expand(min(20, count - first), 1, -1, -1, -1), draw, scales=(0.8, 0.95), amplitude=0.1)
        for first in range(0, count, 20)
    ]
    return torch.cat([functional.avg_pool3d(part, 2) for part in parts]).clamp(0, 1)


def images_of(name: str, size: int) -> tuple[Tensor, list[str] | None]:
    """Three times `size` images (of nuclei: all), and their patients where there are several of one."""
    draw = torch.Generator().manual_seed(0)
    if name == "digits":
        images = torch.cat([digits.Digits(part).images for part in ("train", "held_out", "test")])
        return images[torch.randperm(len(images), generator=draw)[: 3 * size]], None
    if name == "nuclei":
        frames = torch.from_numpy(nuclei.load_frames()[0].astype(np.float32))
        tiles = (frames / np.percentile(frames, 99.8)).clamp(0, 1)[:, :192].unfold(1, 32, 32).unfold(2, 32, 32)
        places = tiles.flatten(1, 2).movedim(0, 1)  # place, frame
        flat = places.flatten(0, 1)
        there = flat.flatten(1).std(1) > 0.05  # tiles without nuclei resemble each other
        names = [f"place {k // places.shape[1]:03d}" for k in there.nonzero().flatten().tolist()]
        return flat[there][:, None], names
    return (_brains if name == "brain" else _volumes)(3 * size, draw), None


def _split(images: Tensor, patients: list[str] | None, seed: int) -> Split:
    """Training, held-out and innocent images: a third of the patients each."""
    names = np.asarray(patients) if patients else np.arange(len(images))
    unique = np.unique(names)
    order = np.random.default_rng(seed).permutation(len(unique))
    third = len(unique) // 3
    rows = [np.flatnonzero(np.isin(names, unique[order[k * third : (k + 1) * third]])) for k in range(3)]
    train, held_out, innocent = (images[torch.from_numpy(each)] for each in rows)
    return train, held_out, innocent, [str(name) for name in names[rows[1]]] if patients else None


def _shifted(images: Tensor, fraction: float) -> Tensor:
    out = torch.zeros_like(images)
    steps = [max(1, round(fraction * side)) for side in images.shape[2:]]
    source = tuple(slice(0, side - step) for side, step in zip(images.shape[2:], steps, strict=True))
    out[(..., *[slice(step, None) for step in steps])] = images[(..., *source)]
    return out


def _affine(images: Tensor, degrees: float, scale: float) -> Tensor:
    dims = images.ndim - 2
    angle = math.radians(degrees)
    matrix = torch.eye(dims, dims + 1)
    matrix[:2, :2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix[:, :dims] /= scale
    grid = functional.affine_grid(matrix.repeat(len(images), 1, 1), list(images.shape), False)
    return functional.grid_sample(images, grid, align_corners=False)


def _changes(draw: torch.Generator) -> dict[str, Callable[[Tensor], Tensor]]:
    def noise(images: Tensor, level: float) -> Tensor:
        return images + level * torch.randn(images.shape, generator=draw)

    return {
        "exact": lambda images: images,
        "noise 5 %": lambda images: noise(images, 0.05),
        "gain": lambda images: images * 1.3 + 0.05,
        "gamma 1.3": lambda images: images**1.3,
        "flip": lambda images: images.flip(2),
        "flip, other axis": lambda images: images.flip(3),
        "shift 5 %": lambda images: _shifted(images, 0.05),
        "shift 10 %": lambda images: _shifted(images, 0.1),
        "rotation 5°": lambda images: _affine(images, 5, 1),
        "noise 10 %": lambda images: noise(images, 0.1),
        "scale 0.95": lambda images: _affine(images, 0, 0.95),
        "flip, shift, gain, noise": lambda images: noise(_shifted(images.flip(2), 0.05) * 1.2, 0.05),
    }


def _recall(name: str, size: int, rate: float, splits: int) -> dict[str, Any]:
    images, patients = images_of(name, size)
    alarms, noisy, recalls = [], [], []
    for seed in range(splits):
        train, held_out, innocent, names = _split(images, patients, seed)
        detector = CopyDetector(train, held_out, patients=names, false_alarm_rate=rate)
        alarms.append(float(detector(innocent).flagged.mean()))
        if seed < _RECALLED:
            changes = _changes(torch.Generator().manual_seed(seed))
            planted = train[:300]
            noisy.append([float(detector(changes[f"noise {k} %"](innocent)).flagged.mean()) for k in (5, 10)])
            recalls.append({kind: float(detector(change(planted)).flagged.mean()) for kind, change in changes.items()})
    return {
        "images": [len(train), len(held_out), len(innocent)],
        "shape": list(train.shape[1:]),
        "false_alarm_rate": rate,
        "calibrated_on": detector.num_calibration,
        "splits": splits,
        "false_alarms": float(np.mean(alarms)),
        "standard_error": float(np.std(alarms, ddof=1) / len(alarms) ** 0.5) if len(alarms) > 1 else None,
        "false_alarms_with_noise_of_5_and_10_percent": np.mean(noisy, 0).tolist(),
        "false_alarms_of_each_split": alarms,
        "recall": {kind: float(np.mean([each[kind] for each in recalls])) for kind in recalls[0]},
    }


def _speed(synthetic: int, real: int, threads: int) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    train = torch.rand((real, 1, 64, 64), generator=draw)
    held_out = torch.rand((max(100, real // 10), 1, 64, 64), generator=draw)
    images = torch.rand((synthetic // 10, 1, 64, 64), generator=draw).repeat(10, 1, 1, 1)
    try:
        wall, processor = time.perf_counter(), time.process_time()
        detector = CopyDetector(train, held_out)
        detector(images)
        spent = time.perf_counter() - wall, time.process_time() - processor
    finally:
        torch.set_num_threads(before)
    return {
        "synthetic": synthetic,
        "real_train": real,
        "held_out": len(held_out),
        "threads": threads,
        "wall_s": spent[0],
        "processor_s": spent[1],
    }


def measure(*, quick: bool = False) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name in ("digits", "brain") if quick else ("digits", "brain", "nuclei", "brain-3d"):
        try:
            size = 60 if quick else {"digits": 1666, "brain": 700, "brain-3d": 300}.get(name, 0)
            # Where fewer than 99 patients are held out, a rate that they allow.
            results[name] = _recall(name, size, 0.05 if quick or name == "nuclei" else 0.01, 1 if quick else 30)
        except MissingExtraError as error:
            results[name] = {"not_measured": str(error)}
    results["speed"] = _speed(200 if quick else 100_000, 100 if quick else 10_000, 2)
    return publish("copies", results, quick=quick)


if __name__ == "__main__":
    measure()
