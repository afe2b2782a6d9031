"""Quality, speed and variety of every family at small size: the review's trilemma (Kebaili et al. 2023, section 2.4).

Each family is trained by `torchgenaug.recipes.fit` on real data for the minutes of its row, then sampled, saved,
loaded, rendered, pooled, mixed and read back. What `TwoStageSynthesizer` and `EnsembleSynthesizer` make of the trained
ones likewise.
Training time is CPU time of one thread, or of the clock with ``--device cuda``. What is told apart:

* quality: sliced Wasserstein distance to held-out images, as a multiple of the distance of real training images to
  them (1: as far as real images); the same for noise, and for the untrained networks; energy distance, precision,
  recall and coverage of radiomics-like features, each with the value of real images (floor) and of degraded ones
  (ceiling);
* variety: mean distance between two samples of a class or condition, as a multiple of that between two real images;
* copies: how many samples count as copies of training images (by chance 5 %), see `CopyTest`;
* obedience: how many samples have the class that was wanted, as a classifier of real images sees it; how much two
  samples of one condition differ, as a multiple of two real images;
* translation: mean PSNR of held-out pairs, or of what was filled in them, beside that of the mean training image;
* speed: samples per second on one thread.

    python -m benchmarks.families --out FOLDER        # goes on where it was interrupted
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from benchmarks.family_quality import draw, judge_synthesizer
from benchmarks.family_rows import EQUAL_ROWS, ROWS, UNIONS, Row, Union
from benchmarks.harness import RESULTS, publish
from torchgenaug import save_synthesizer
from torchgenaug.recipes import FitOptions, Options, TrainingData, fit, load_data
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe, describe_family, family_view, given_fields
from torchgenaug.recipes.report import Judge
from torchgenaug.recipes.state import TrainingState

_CALIBRATION_SECONDS = 3.0
_PHASES = (0.1, 0.9)  # latent diffusion trains its autoencoder first


def measure_row(row: Row, effort: float, out: Path, device: str = "cpu") -> dict[str, Any]:
    """Trains and judges one family; `effort` multiplies its minutes. On a GPU these are minutes of the clock."""
    data, held_out = row.read("train"), row.read("held_out")
    options = replace(row.options, batch_size=row.options.batch_size or describe_family(row.family).batch_size)
    if options.teacher is not None:
        options = replace(options, teacher=str(out / options.teacher))
    seen, seen_later = (family_view(row.family, each, options) for each in (data, held_out))
    options = replace(options, steps=_planned_steps(row, effort, seen, options, out / row.name / "steps.json", device))
    clock = _clock(device)
    started = clock()
    result = fit(
        row.family,
        data,
        out / row.name,
        held_out=held_out,
        recipe=options,
        options=FitOptions(reports=row.reports),
        device=device,
        progress=False,
        rotate=int(row.data.startswith("brain")),
    )
    seconds = clock() - started
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recipe = build_recipe(row.family, seen, options)
        untrained = recipe.synthesizer({name: each.to(device) for name, each in recipe.networks.items()})
    judge = Judge(seen, seen_later, given_fields(row.family, options))
    numbers = sum(each.numel() for network in recipe.networks.values() for each in network.parameters())
    return {
        "family": row.family,
        "with_mask": row.options.with_mask,
        "steps": result.steps,
        "device": "CPU" if device == "cpu" else torch.cuda.get_device_name(),
        "planned_minutes": effort * row.minutes,
        "train_cpu_minutes" if device == "cpu" else "train_minutes": seconds / 60,
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


def _planned_steps(row: Row, effort: float, data: TrainingData, options: Options, kept: Path, device: str) -> int:
    """How many steps the minutes of the row allow; measured once, so that an interrupted run goes on."""
    if not kept.exists():
        steps = round(60 * effort * row.minutes / seconds_per_step(row.family, data, options, device=device))
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(max(2, steps)))
    return int(json.loads(kept.read_text()))


def seconds_per_step(
    family: str,
    data: TrainingData,
    options: Options,
    calibration: float = _CALIBRATION_SECONDS,
    device: str = "cpu",
) -> float:
    """CPU seconds of a training step (on a GPU: of the clock), from some seconds of training that are thrown away."""
    loop, clock = FitOptions(), _clock(device)
    with torch.random.fork_rng():
        recipe = build_recipe(family, data, replace(options, steps=1000))
        state = TrainingState(recipe, Accelerator(cpu=device == "cpu"), loop)
        batches = training_batches(data, options.batch_size or 1, augment=loop.augment)
        for progress in _PHASES:  # what a recipe does once when a phase begins is no part of a step
            state.train_step(batches, progress)
        began, done = clock(), 0
        while clock() - began < calibration or done % len(_PHASES):
            state.train_step(batches, _PHASES[done % len(_PHASES)])
            done += 1
        return (clock() - began) / done


def _clock(device: str) -> Callable[[], float]:
    """Processor time; on a GPU the time of the clock when it has done what it was given."""
    if device == "cpu":
        return time.process_time

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def measure(
    *,
    quick: bool = False,
    effort: float = 1.0,
    out: Path | None = None,
    only: Collection[str] = (),
    device: str = "cpu",
) -> None:
    """All rows, one after the other; with `out`, each finished row is kept there and not measured again."""
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of copies: they are a column of the table
        out = out or Path(scratch)
        if quick:
            row = Row("vae", "digits", Options(width=8, latent_dim=4))
            publish("families", {"rows": [measure_row(row, 0.004, out)]}, quick=True)
            return
        rows = {}
        for each in (*ROWS, *UNIONS, *EQUAL_ROWS):
            kept = out / each.name / "row.json"
            if not kept.exists():
                if only and not {each.family, each.name} & set(only):
                    continue  # what is there from other runs is published all the same
                print(f"{each.name} …", flush=True)
                kept.parent.mkdir(parents=True, exist_ok=True)
                is_row = isinstance(each, Row)
                measured = measure_row(each, effort, out, device) if is_row else measure_union(each, out)
                kept.write_text(json.dumps(measured))
            row_ = json.loads(kept.read_text())
            rows[_identity(row_)] = row_
            print(row_, flush=True)
        publish("families", {"rows": list((_published() | rows).values())}, quick=quick)
        if only:
            return  # a picture of a few rows would replace that of all
        for picture in {each.picture for each in (*ROWS, *UNIONS, *EQUAL_ROWS)}:
            draw(out, RESULTS / picture)


def _published() -> dict[str, Mapping[str, Any]]:
    """The rows of the last results, which stay unless they are measured again."""
    path = RESULTS / "families.json"
    if not path.exists():
        return {}
    document = json.loads(path.read_text())
    before = {"measured": f"{document['date']}, commit {document['commit']}"}
    return {_identity(row): before | row for row in document["results"]["rows"]}


def _identity(row: Mapping[str, Any]) -> str:
    return f"{row['family']} {row['data']} {row['shape']} {row['condition']} {row.get('with_mask', False)}"


def main() -> None:
    """Trains all families, one after the other; each finished row is kept in FOLDER and not measured again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effort", type=float, default=1.0, help="multiplies the training time of every family")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained synthesizers")
    parser.add_argument("--only", help="families, or names of folders, with commas between them")
    parser.add_argument(
        "--device", default="cpu", help="cuda: rows take minutes of the clock; they are judged on the CPU"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    only = () if arguments.only is None else arguments.only.split(",")
    measure(effort=arguments.effort, out=arguments.out, only=only, device=arguments.device)


if __name__ == "__main__":
    main()
