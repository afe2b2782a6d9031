"""Translation without pairs: how near held-out pairs it comes, with and without the structure loss.

Every family is trained for the same CPU time on the embedded T1/T2 slices at 32 x 32, which are shown without their
pairs to all but ``pix2pix``; then held-out T1 slices are translated and compared with their own T2 slices.

    python -m benchmarks.gans.unpaired --out results.jsonl --seconds 18 --seeds 2
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from benchmarks.harness import publish
from torchgenaug.recipes import FitOptions, Options, load_data
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe
from torchgenaug.recipes.pairs import translation_quality
from torchgenaug.recipes.state import TrainingState

ARMS = (
    ("cyclegan", {"structure": 0.0}),
    ("cyclegan", {"structure": 1.0}),
    ("cut", {"structure": 0.0}),
    ("cut", {"structure": 1.0}),
    ("munit", {"structure": 1.0}),
    ("pix2pix", {}),
)


def measure_arm(family: str, settings: dict[str, float], seconds: float, seed: int) -> dict[str, Any]:
    """PSNR and SSIM of held-out pairs after `seconds` of training on one thread."""
    data, held_out = load_data("brain-t1-t2", size=32), load_data("brain-t1-t2", split="held_out", size=32)
    options = Options(condition="source", batch_size=4, width=8, steps=1000, settings=settings)
    torch.manual_seed(seed)
    run = TrainingState(build_recipe(family, data, options), Accelerator(cpu=True), FitOptions(seed=seed))
    batches = training_batches(data, 4, seed=seed, augment=True)
    began = time.process_time()
    while (spent := time.process_time() - began) < seconds:
        run.train_step(batches, spent / seconds)
    quality = translation_quality(run.synthesizer(), data, held_out)
    return {"family": family, **settings, "seed": seed, "steps": run.step, "seconds": seconds, **quality}


def main() -> None:
    """Appends a line of JSON for each arm and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--seconds", type=float, default=18.0, help="CPU seconds of training for each")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--publish", action="store_true", help="keep all rows of the file as results/unpaired.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(arguments.seeds):
        for family, settings in ARMS:
            row = measure_arm(family, settings, arguments.seconds, seed)
            with arguments.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
    if arguments.publish:
        publish(
            "unpaired", {"rows": [json.loads(line) for line in arguments.out.read_text().splitlines()]}, quick=False
        )


if __name__ == "__main__":
    main()
