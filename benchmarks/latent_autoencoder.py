"""What blurs the autoencoder of ``ldm``: held-out volumes that it rebuilds, with parts of the recipe as they were.

Each is trained for the same processor time on ``brain-3d`` at 16 x 16 x 16, batches of four. *Error* is the mean
difference of intensities in [0, 1]; *distance* the sliced Wasserstein distance to the held-out volumes, over that of
real training volumes. *Ignored*: the error with the noise of the latents over that without (1: the decoder makes the
same of both). *Spread*: the standard deviation of that noise over that of latents of different volumes.

    python -m benchmarks.latent_autoencoder --seconds 50
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator

from torchgenaug.recipes import FitOptions, Options, load_data
from torchgenaug.recipes.batches import spared, training_batches
from torchgenaug.recipes.build import build_recipe, resolve_condition
from torchgenaug.recipes.families import ldm
from torchgenaug.recipes.report import Judge
from torchgenaug.recipes.state import TrainingState

_CONSTANT = {"_AUTOENCODER_RATE": 1e-3, "_LAST_RATE": 1.0}
ARMS: Mapping[str, tuple[Mapping[str, float], float]] = {
    "as it was": ({**_CONSTANT, "_KL_WEIGHT": 1e-6, "_FIRST_LOG_VARIANCE": 0.0}, 0.0),
    "Kullback-Leibler weight 1e-8": ({**_CONSTANT, "_FIRST_LOG_VARIANCE": 0.0}, 0.0),
    "deviation from exp(-3)": ({**_CONSTANT, "_KL_WEIGHT": 1e-6}, 0.0),
    "both": (_CONSTANT, 0.0),
    "both, rate that falls": ({}, 0.0),
    "as it is, with a critic": ({}, 0.02),
    "as it is, but deviation from 1": ({"_FIRST_LOG_VARIANCE": 0.0}, 0.02),
    "as it is, but Kullback-Leibler weight 1e-6": ({"_KL_WEIGHT": 1e-6}, 0.02),
}
"""Constants of the recipe that are changed, and the weight of the critic."""


def measure_arm(changes: Mapping[str, float], critic: float, seconds: float, seed: int) -> dict[str, Any]:
    """Trains an autoencoder alone, and lets it rebuild held-out volumes."""
    data, held_out = (load_data("brain-3d", split=split, size=16) for split in ("train", "held_out"))
    options = resolve_condition("ldm", data, Options(batch_size=4, steps=100_000, settings={"adversarial": critic}))
    with patch.multiple(ldm, **{"_KL_WEIGHT": ldm._KL_WEIGHT, **changes}):
        torch.manual_seed(seed)
        run = TrainingState(build_recipe("ldm", data, options), Accelerator(cpu=True), FitOptions(seed=seed))
        batches = training_batches(data, 4, seed=seed, augment=True, spare=spared(run.recipe.networks))
        spent = 0.0
        while spent < seconds:
            began = time.process_time()
            run.train_step(batches, ldm._AUTOENCODER_SHARE * min(spent / seconds, 0.999))
            spent += time.process_time() - began
    autoencoder: Any = run.recipe.networks["autoencoder"].eval()
    real = torch.stack([held_out.samples[k]["image"] for k in range(len(held_out))])
    with torch.no_grad():
        means, deviations = autoencoder.encode(real * 2 - 1)
        noisy = means + deviations * torch.randn_like(means)
        rebuilt, from_noisy = (((autoencoder.decode(each) + 1) / 2).clamp(0, 1) for each in (means, noisy))
    error = float((rebuilt - real).abs().mean())
    judge = Judge(data, held_out, None)
    return {
        "steps": run.step,
        "error": error,
        "distance": judge.distance({"image": rebuilt}) / judge.floor,
        "ignored": float((from_noisy - real).abs().mean()) / error,
        "spread": float(deviations.mean() / means.std(0).mean()),
    }


def main() -> None:
    """Prints a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=50.0, help="CPU seconds of each training")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, (changes, critic) in ARMS.items():
        row = measure_arm(changes, critic, arguments.seconds, arguments.seed)
        print(json.dumps({"arm": name, "seconds": arguments.seconds, "seed": arguments.seed, **row}), flush=True)


if __name__ == "__main__":
    main()
