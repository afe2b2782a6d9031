"""Quality, speed and variety of every family at small size: the review's trilemma (Kebaili et al. 2023, section 2.4).

Each family is trained by `torchgenaug.recipes.fit` on real data for the minutes of its row, then sampled, saved,
loaded, rendered, pooled, mixed and read back. What `TwoStageSynthesizer` and `EnsembleSynthesizer` make of the trained
ones likewise.
Training time is CPU time of one thread. What is told apart:

* quality: sliced Wasserstein distance to held-out images, as a multiple of the distance of real training images to
  them (1: as far as real images); the same for noise, and for the untrained networks;
* variety: mean distance between two samples of a class or condition, as a multiple of that between two real images;
* copies: how many samples count as copies of training images (by chance 5 %), see `CopyTest`;
* translation: mean PSNR of held-out pairs, beside that of the mean training image;
* speed: samples per second on one thread.

    python -m benchmarks.families --out FOLDER        # goes on where it was interrupted
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.harness import RESULTS, publish
from torchgenaug import (
    EnsembleSynthesizer,
    ShardSource,
    SyntheticMixDataset,
    SyntheticPool,
    SyntheticSequence,
    TwoStageSynthesizer,
    load_synthesizer,
    render_shards,
    save_synthesizer,
)
from torchgenaug.contracts import Synthesizer
from torchgenaug.recipes import FitOptions, Options, TrainingData, fit, load_data
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe, describe_family
from torchgenaug.recipes.options import Condition
from torchgenaug.recipes.report import HeldOutConditions, Judge
from torchgenaug.recipes.state import TrainingState
from torchgenaug.tasks.translation import translation_quality

_CALIBRATION_SECONDS = 4.0
_PHASES = (0.1, 0.9)  # latent diffusion trains its autoencoder first
_SHOWN = 8


class Row(NamedTuple):
    """One row of the table: a family, and how many CPU minutes it is trained."""

    family: str
    data: str
    options: Options
    minutes: float = 5.0

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.family}-{self.data}-{self.options.condition or 'none'}"


class Union(NamedTuple):
    """One row of the table: a synthesizer that joins trained ones."""

    family: str
    parts: tuple[str, str]
    data: str
    condition: Condition | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.family}-{self.data}"

    def join(self, folder: Path) -> Synthesizer:
        """The synthesizer, of the rows `parts` in `folder`."""
        one, other = (load_synthesizer(folder / part) for part in self.parts)
        if self.family == "two-stage":
            return TwoStageSynthesizer(one, other)
        return EnsembleSynthesizer(dict(zip(self.parts, (one, other), strict=True)))


_AUTOENCODERS = (
    *("vae", "hvae", "vae-iaf", "vae-linnf", "info-vae", "beta-vae", "disentangled-beta-vae", "beta-tcvae"),
    *("factor-vae", "iwae", "miwae", "piwae", "ciwae", "vamp", "msssim-vae", "svae", "poincare-vae", "wae", "aae"),
    *("rae-l2", "rae-gp", "ae"),
)

ROWS = (
    Row("cvae", "digits", Options(condition="label", batch_size=128)),
    Row("rhvae", "digits", Options(batch_size=32)),
    Row("vae-gan", "digits", Options(batch_size=32)),
    Row("vqvae", "digits", Options()),
    Row("dcgan", "digits", Options(condition="label")),
    Row("wgan-gp", "digits", Options(condition="label")),
    Row("acgan", "digits", Options(condition="label")),
    Row("ddpm", "digits", Options(condition="label", batch_size=32)),
    Row("ldm", "digits", Options(condition="label", batch_size=32)),
    Row("progressive", "digits", Options(condition="label", teacher="ddpm-digits-label", sampling_steps=4)),
    Row("pix2pix", "brain", Options(condition="mask")),
    Row("spade", "brain", Options(condition="mask")),
    Row("ddpm", "brain", Options(condition="mask")),
    Row("ddpm", "brain", Options(with_mask=True), 15),
    Row("pix2pix", "brain-t1-t2", Options(condition="source")),
    Row("cyclegan", "brain-t1-t2", Options(condition="source"), 10),
    Row("ddpm", "brain-t1-t2", Options(condition="source")),
    Row("ddpm", "nuclei", Options(with_mask=True)),
    Row("pix2pix", "nuclei", Options(condition="mask")),
    Row("pix2pix", "nuclei", Options(condition="source")),
    Row("vae", "brain-3d", Options(batch_size=8), 15),
    Row("dcgan", "brain-3d", Options(batch_size=8), 15),
    Row("ldm", "brain-3d", Options(batch_size=4), 30),
    Row("pix2pix", "brain-3d", Options(condition="mask", batch_size=2), 15),
    Row("spade", "brain-3d", Options(condition="mask", batch_size=2, width=8), 8),
    *(Row(family, "digits", Options(batch_size=32), 1) for family in _AUTOENCODERS),
)
UNIONS = (
    Union("ensemble", ("dcgan-digits-label", "ddpm-digits-label"), "digits", "label"),
    Union("two-stage", ("ddpm-nuclei-none", "pix2pix-nuclei-mask"), "nuclei"),
    Union("two-stage", ("ddpm-brain-none", "spade-brain-mask"), "brain"),
)


def measure_row(row: Row, effort: float, out: Path) -> dict[str, Any]:
    """Trains and judges one family; `effort` multiplies its minutes."""
    data, held_out = load_data(row.data), load_data(row.data, split="held_out")
    options = replace(row.options, batch_size=row.options.batch_size or describe_family(row.family).batch_size)
    if options.teacher is not None:
        options = replace(options, teacher=str(out / options.teacher))
    minutes = effort * row.minutes
    options = replace(options, steps=max(2, round(60 * minutes / _seconds_per_step(row.family, data, options))))
    started = time.process_time()
    result = fit(
        row.family,
        data,
        out / row.name,
        held_out=held_out,
        recipe=options,
        options=FitOptions(reports=2),
        device="cpu",
        progress=False,
        rotate=int(row.data.startswith("brain")),
    )
    seconds = time.process_time() - started
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recipe = build_recipe(row.family, data, options)
        untrained = recipe.synthesizer(recipe.networks)
    judge = Judge(data, held_out, row.options.condition)
    numbers = sum(each.numel() for network in recipe.networks.values() for each in network.parameters())
    return {
        "family": row.family,
        "with_mask": row.options.with_mask,
        "steps": result.steps,
        "planned_minutes": minutes,
        "train_cpu_minutes": seconds / 60,
        "distance_untrained": judge.distance(judge.samples(untrained)) / judge.floor,
        "million_parameters": numbers / 1e6,
        **judge_synthesizer(out / row.name, judge),
    }


def measure_union(union: Union, out: Path) -> dict[str, Any]:
    """Joins what was trained, and judges it."""
    judge = Judge(load_data(union.data), load_data(union.data, split="held_out"), union.condition)
    if not (out / union.name / "synthesizer.json").exists():
        save_synthesizer(union.join(out), out / union.name)
    return {"family": union.family, "parts": union.parts, **judge_synthesizer(out / union.name, judge)}


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
    sequence = SyntheticSequence(synthesizer, conditions if judge.condition else None)
    render_shards(sequence, folder / "training" / "shards", 16, batch_size=16, shard_size=16, ranks=(0, 1))
    read = ShardSource(folder / "training" / "shards").read(np.arange(16))
    with closing(SyntheticPool(sequence, capacity=16, batch_size=16, background=False)) as pool:
        mixed = SyntheticMixDataset(judge.data.samples, pool, ratio=0.25, fields=("image",))
        served = pool.read(np.arange(16))
        mixed[0]
    for held in (read, served):
        if not torch.equal(held["image"], samples["image"][:16]):
            raise RuntimeError("Shards, pool and samples must be equal, and are not.")
    told = {}
    if judge.condition == "source":
        quality = translation_quality(synthesizer, judge.data, judge.held_out)
        told = {name: quality[name] for name in ("psnr_db", "psnr_mean_image_db")}
    return {
        "data": judge.data.name,
        "dims": judge.data.spatial_dims,
        "shape": list(judge.data.image_shape),
        "condition": judge.condition or "none",
        "distance": judge.distance(samples) / judge.floor,
        "distance_noise": judge.noise / judge.floor,
        "variety": _variety(samples["image"], samples.get("label")) / _variety_of(judge.data),
        "copied": copied,
        "copies_too_much": too_much,
        "samples_per_cpu_second": len(samples["image"]) / sampling,
        **told,
    }


def _seconds_per_step(family: str, data: TrainingData, options: Options) -> float:
    """CPU seconds of a training step, from a few seconds of training that are thrown away."""
    loop = FitOptions()
    with torch.random.fork_rng():
        recipe = build_recipe(family, data, replace(options, steps=1000))
        state = TrainingState(recipe, Accelerator(cpu=True), loop)
        batches = training_batches(data, options.batch_size or 1, augment=loop.augment)
        for progress in _PHASES:  # what a recipe does once when a phase begins is no part of a step
            state.train_step(batches, progress)
        began, done = time.process_time(), 0
        while time.process_time() - began < _CALIBRATION_SECONDS or done % len(_PHASES):
            state.train_step(batches, _PHASES[done % len(_PHASES)])
            done += 1
        return (time.process_time() - began) / done


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


def measure(*, quick: bool = False, effort: float = 1.0, out: Path | None = None, only: Collection[str] = ()) -> None:
    """All rows, one after the other; with `out`, each finished row is kept there and not measured again."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of copies: they are a column of the table
        out = out or Path(scratch)
        if quick:
            row = Row("vae", "digits", Options(width=8, latent_dim=4))
            publish("families", {"rows": [measure_row(row, 0.004, out)]}, quick=True)
            return
        for each in (*ROWS, *UNIONS):
            kept = out / each.name / "row.json"
            if not kept.exists():
                if only and not {each.family, each.name} & set(only):
                    continue  # what is there from other runs is published all the same
                print(f"{each.name} …", flush=True)
                kept.parent.mkdir(parents=True, exist_ok=True)
                told = measure_row(each, effort, out) if isinstance(each, Row) else measure_union(each, out)
                kept.write_text(json.dumps(told))
            rows.append(json.loads(kept.read_text()))
            print(rows[-1], flush=True)
        publish("families", {"rows": rows}, quick=quick)
        draw(out, RESULTS / "families.png")


def draw(out: Path, path: Path) -> None:
    """Eight rendered samples of each row that is in `out`; of volumes the middle slice."""
    from matplotlib.figure import Figure

    shown = [each for each in (*ROWS, *UNIONS) if (out / each.name / "row.json").exists()]
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
                picture = image[0] if image.ndim == 3 else image[0, :, :, image.shape[-1] // 2]
                axis.imshow(picture.rot90() if each.data.startswith("brain") else picture, cmap="gray", vmin=0, vmax=1)
            text = f"{each.family}\n{each.data}" + (f", {row['condition']}" if row["condition"] != "none" else "")
            line[0].text(-0.15, 0.5, text, transform=line[0].transAxes, ha="right", va="center")
        half.subplots_adjust(0.2, 0.005, 0.995, 0.995, 0.04, 0.04)
    figure.savefig(path, dpi=60)


def main() -> None:
    """Trains all families, one after the other; each finished row is kept in FOLDER and not measured again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effort", type=float, default=1.0, help="multiplies the training time of every family")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained synthesizers")
    parser.add_argument("--only", help="families, or names of folders, with commas between them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    only = () if arguments.only is None else arguments.only.split(",")
    measure(effort=arguments.effort, out=arguments.out, only=only)


if __name__ == "__main__":
    main()
