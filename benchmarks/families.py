"""Quality, speed and variety of every family at small size: the review's trilemma (Kebaili et al. 2023, section 2.4).

Each family is trained by `torchgenaug.recipes.fit` on real data for the same number of minutes, then sampled, saved,
loaded, rendered and read back. Training time is CPU time of one thread. What is told apart:

* quality: sliced Wasserstein distance to held-out images, as a multiple of the distance of real training images to
  them (1: as far as real images); the same for noise, and for the untrained networks;
* variety: mean distance between two samples of a class or condition, as a multiple of that between two real images;
* copies: how many samples count as copies of training images (by chance 5 %), see `CopyTest`;
* speed: samples per second on one thread.

    python -m benchmarks.families --minutes 5 --out FOLDER        # goes on where it was interrupted
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.harness import RESULTS, publish
from torchgenaug import ShardSource, SyntheticSequence, load_synthesizer, render_shards
from torchgenaug.recipes import FitOptions, Options, TrainingData, fit, load_data
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.recipe import build_recipe, describe_family
from torchgenaug.recipes.report import HeldOutConditions, Judge
from torchgenaug.recipes.state import TrainingState

_CALIBRATION_SECONDS = 4.0
_SHOWN = 8


class Row(NamedTuple):
    """One row of the table."""

    family: str
    data: str
    options: Options


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
    Row("pix2pix", "brain", Options(condition="mask")),
    Row("spade", "brain", Options(condition="mask")),
    Row("ddpm", "brain", Options(condition="mask")),
    Row("pix2pix", "brain-t1-t2", Options(condition="source")),
    Row("cyclegan", "brain-t1-t2", Options(condition="source")),
    Row("ddpm", "brain-t1-t2", Options(condition="source")),
    Row("ddpm", "nuclei", Options(with_mask=True)),
    Row("pix2pix", "nuclei", Options(condition="source")),
    Row("vae", "brain-3d", Options(batch_size=8)),
    Row("dcgan", "brain-3d", Options(batch_size=8)),
    Row("ldm", "brain-3d", Options(batch_size=4)),
)


def measure_row(row: Row, minutes: float, folder: Path) -> dict[str, Any]:
    """Trains and judges one family."""
    data, held_out = load_data(row.data), load_data(row.data, split="held_out")
    options = replace(row.options, batch_size=row.options.batch_size or describe_family(row.family).batch_size)
    options = replace(options, steps=max(2, round(60 * minutes / _seconds_per_step(row.family, data, options))))
    started = time.process_time()
    result = fit(
        row.family,
        data,
        folder,
        held_out=held_out,
        recipe=options,
        options=FitOptions(reports=2),
        device="cpu",
        progress=False,
        rotate=int(row.data.startswith("brain")),
    )
    seconds = time.process_time() - started
    judge = Judge(data, held_out, row.options.condition)
    synthesizer = load_synthesizer(folder)
    began = time.process_time()
    samples = judge.samples(synthesizer)
    sampling = time.process_time() - began
    distance = judge.distance(samples)
    copied, too_much = judge.copied(samples)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recipe = build_recipe(row.family, data, options)
        untrained = judge.distance(judge.samples(recipe.synthesizer(recipe.networks)))
    conditions = HeldOutConditions(held_out, row.options.condition)
    sequence = SyntheticSequence(synthesizer, conditions if row.options.condition else None)
    render_shards(sequence, folder / "training" / "shards", 16, batch_size=16, shard_size=16, ranks=(0, 1))
    read = ShardSource(folder / "training" / "shards").read(torch.arange(16).numpy())
    if not torch.equal(read["image"], samples["image"][:16]):
        raise RuntimeError("shards and samples differ")
    return {
        "family": row.family,
        "data": row.data,
        "dims": data.spatial_dims,
        "shape": list(data.image_shape),
        "condition": row.options.condition or ("with mask" if row.options.with_mask else "none"),
        "steps": result.steps,
        "train_cpu_minutes": seconds / 60,
        "distance": distance / judge.floor,
        "distance_untrained": untrained / judge.floor,
        "distance_noise": judge.noise / judge.floor,
        "variety": _variety(samples["image"], samples.get("label")) / _variety_of(data),
        "copied": copied,
        "copies_too_much": too_much,
        "samples_per_cpu_second": len(samples["image"]) / sampling,
        "million_parameters": sum(each.numel() for network in recipe.networks.values() for each in network.parameters())
        / 1e6,
    }


def _seconds_per_step(family: str, data: TrainingData, options: Options) -> float:
    """CPU seconds of a training step, from a few seconds of training that are thrown away."""
    loop = FitOptions()
    with torch.random.fork_rng():
        recipe = build_recipe(family, data, replace(options, steps=1000))
        state = TrainingState(recipe, Accelerator(cpu=True), loop)
        batches = training_batches(data, options.batch_size or 1, augment=loop.augment)
        state.train_step(batches, 0.0)
        began, done = time.process_time(), 0
        while time.process_time() - began < _CALIBRATION_SECONDS:
            state.train_step(batches, 0.5)
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


def measure(*, quick: bool = False, minutes: float = 5.0, out: Path | None = None, only: Collection[str] = ()) -> None:
    """All rows, one after the other; with `out`, each finished row is kept there and not measured again."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of copies: they are a column of the table
        if quick:
            row = Row("vae", "digits", Options(width=8, latent_dim=4))
            publish("families", {"rows": [measure_row(row, 0.02, Path(scratch) / "model")]}, quick=True)
            return
        for row in ROWS:
            folder = (out or Path(scratch)) / _name(row)
            kept = folder / "row.json"
            if not kept.exists():
                if only and not {row.family, f"{row.family}-{row.data}"} & set(only):
                    continue  # what is there from other runs is published all the same
                print(f"{row.family} on {row.data} …", flush=True)
                folder.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(measure_row(row, minutes, folder)))
            rows.append(json.loads(kept.read_text()))
            print(rows[-1], flush=True)
    publish("families", {"planned_minutes": minutes, "rows": rows}, quick=quick)
    if out is not None:
        draw([(row, out / _name(row)) for row in ROWS], RESULTS / "families.png")


def draw(trained: Sequence[tuple[Row, Path]], path: Path) -> None:
    """Eight rendered samples of each family; of volumes the middle slice."""
    from matplotlib.figure import Figure

    trained = [(row, folder) for row, folder in trained if (folder / "row.json").exists()]
    figure = Figure(figsize=(_SHOWN + 1.6, len(trained) * 1.02))
    axes = figure.subplots(len(trained), _SHOWN, squeeze=False)
    for line, (row, folder) in zip(axes, trained, strict=True):
        images = ShardSource(folder / "training" / "shards").read(np.arange(_SHOWN))["image"]
        for axis, image in zip(line, images, strict=True):
            picture = image[0] if image.ndim == 3 else image[0, :, :, image.shape[-1] // 2]
            axis.imshow(picture.rot90() if row.data.startswith("brain") else picture, cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
        told = f", {row.options.condition}" if row.options.condition else ""
        line[0].text(
            -0.15, 0.5, f"{row.family}\n{row.data}{told}", transform=line[0].transAxes, ha="right", va="center"
        )
    figure.subplots_adjust(0.17, 0.005, 0.995, 0.995, 0.04, 0.04)
    figure.savefig(path, dpi=60)


def _name(row: Row) -> str:
    return f"{row.family}-{row.data}-{row.options.condition or 'none'}"


def main() -> None:
    """Trains all families, one after the other; each finished row is kept in FOLDER and not measured again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="planned training time of each family")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained synthesizers")
    parser.add_argument("--only", help="families, or FAMILY-DATA, with commas between them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    only = () if arguments.only is None else arguments.only.split(",")
    measure(minutes=arguments.minutes, out=arguments.out, only=only)


if __name__ == "__main__":
    main()
