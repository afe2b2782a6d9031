"""Stripes of generated volumes: power at half and a quarter of the sampling frequency by axis, while a GAN trains.

Layers that double the size may leave a pattern of period two or four: a peak of the spectrum there. *Peak* is the power
at a frequency over that at its neighbours (1: none); *share* is that of the upper half of the frequencies, over that of
real volumes (1: as real ones; blur lowers it).

    python -m benchmarks.gans.stripes --out results.jsonl --seconds 90
    python -m benchmarks.gans.stripes --out results.jsonl --seconds 400 --size 32 --family spade
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.families import seconds_per_step
from benchmarks.harness import publish
from torchgenaug.recipes import FitOptions, Options, load_data
from torchgenaug.recipes.batches import spared, training_batches
from torchgenaug.recipes.build import build_recipe, describe_family, given_fields, resolve_condition
from torchgenaug.recipes.report import Judge
from torchgenaug.recipes.state import TrainingState

AXES = (2, 3, 4)
ARMS: tuple[tuple[str, Mapping[str, Any], str | None], ...] = (
    ("dcgan", {}, None),
    ("spade", {}, "mask"),
    ("dcgan", {"smooth": True}, None),
)
_LOOKS = 4


def spectrum(volumes: Tensor, axis: int) -> Tensor:
    """Power along one axis, averaged over the other two and over the volumes, as shares: (frequencies,).

    Args:
        volumes: (count, 1, *spatial).
        axis: 2, 3 or 4.
    """
    power = torch.fft.rfft(volumes.double() - volumes.double().mean(axis, keepdim=True), dim=axis).abs().square()
    kept = power.mean([k for k in range(power.ndim) if k != axis])[1:]
    shares: Tensor = kept / kept.sum()
    return shares


def peaks(volumes: Tensor, axis: int) -> tuple[float, float]:
    """Power at periods of two and four voxels, over that at the neighbouring frequencies (their geometric mean)."""
    share = spectrum(volumes, axis)
    half, quarter = len(share) - 1, len(share) // 2 - 1
    beside = (share[quarter - 1] * share[quarter + 1]).sqrt()
    return float(share[half] / share[half - 1]), float(share[quarter] / beside)


def upper_share(volumes: Tensor, real: Tensor, axis: int) -> float:
    """The share of power in the upper half of the frequencies, over that of real volumes."""
    made, true = (float(share[len(share) // 2 :].sum()) for share in (spectrum(volumes, axis), spectrum(real, axis)))
    return made / max(true, 1e-12)


def stripes(volumes: Tensor, real: Tensor) -> float:
    """The largest `upper_share` of the three axes: stripes of two or four voxels raise it, blur lowers it."""
    return max(upper_share(volumes, real, axis) for axis in AXES)


def measure_arm(
    family: str, settings: Mapping[str, Any], condition: str | None, seconds: float, size: int
) -> dict[str, Any]:
    """Trains for `seconds` of processor time; looks at 64 volumes before, and after each quarter."""
    data, held_out = (load_data("brain-3d", split=split, size=size) for split in ("train", "held_out"))
    given: Any = condition
    options = Options(condition=given, batch_size=8 if condition is None else 2, settings=dict(settings))
    options = resolve_condition(family, data, options)
    steps = max(_LOOKS, round(seconds / seconds_per_step(family, data, options)))
    torch.manual_seed(0)
    options = Options(**{**vars(options), "steps": steps})
    run = TrainingState(build_recipe(family, data, options), Accelerator(cpu=True), FitOptions())
    batches = training_batches(
        data,
        options.batch_size or describe_family(family).batch_size,
        augment=True,
        spare=spared(run.recipe.networks),
    )
    judge = Judge(data, held_out, given_fields(family, options))
    real = torch.stack([data.samples[k]["image"] for k in range(len(data))])
    looks, began = [], time.process_time()
    for number in range(_LOOKS + 1):
        while run.step < steps * number // _LOOKS:
            run.train_step(batches, run.step / steps)
        samples = judge.samples(run.synthesizer())
        looks.append(
            {
                "step": run.step,
                "distance": judge.distance(samples) / judge.floor,
                "peaks": [peaks(samples["image"], axis) for axis in AXES],
                "upper_share": [upper_share(samples["image"], real, axis) for axis in AXES],
            }
        )
    return {
        "family": family,
        **settings,
        "shape": list(data.image_shape),
        "cpu_minutes": (time.process_time() - began) / 60,
        "peaks_of_real": [peaks(real, axis) for axis in AXES],
        "looks": looks,
    }


def main() -> None:
    """Appends a line of JSON for each arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--seconds", type=float, default=90.0, help="CPU seconds of training for each")
    parser.add_argument("--size", type=int, default=16, help="voxels of the shortest side")
    parser.add_argument("--family", help="of the arms, those of one family without settings")
    parser.add_argument("--publish", action="store_true", help="keep all rows of the file as results/stripes.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for family, settings, condition in ARMS:
        if arguments.family is not None and (settings or family != arguments.family):
            continue
        row = measure_arm(family, settings, condition, arguments.seconds, arguments.size)
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
    if arguments.publish:
        rows = [json.loads(line) for line in arguments.out.read_text().splitlines()]
        publish("stripes", {"rows": rows}, quick=False)


if __name__ == "__main__":
    main()
