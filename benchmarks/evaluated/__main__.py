"""Do synthetic sets whose fault is known get different verdicts, the right ones?

Train the models first, in the folder that is then given as MODELS (about 12 CPU minutes in all)::

    P=benchmarks.evaluated.patients
    torchgenaug fit spade $P:train --condition mask --steps 800 --out MODELS/good
    torchgenaug fit cvae $P:train --condition label --batch-size 32 --steps 300 --out MODELS/blurred
    torchgenaug fit ae $P:ten --batch-size 10 --no-augment --steps 250 --out MODELS/memorised
    python -m benchmarks.evaluated.collapsing MODELS/collapsed
    python -m benchmarks.evaluated MODELS --out REPORTS

The collapsed model is a plain GAN without the protections of ours, which did not collapse. The last set is a folder of
PNGs, training images as they are. All are judged against the same real images.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from benchmarks.evaluated.patients import patients
from torchgenaug import ClassLabels, RealFields, SyntheticSequence, load_synthesizer
from torchgenaug.recipes.data.factory import from_factory
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.sources.in_memory import InMemorySource
from torchgenaug.trust import evaluate
from torchgenaug.trust.leaks.real_images import RealImages

COUNT = 300
SETS = ("good", "blurred", "collapsed", "memorised", "real images")


def synthetic(name: str, models: Path, count: int) -> Any:
    """The set of that name."""
    if name == "real images":
        folder = models / "posing"
        folder.mkdir(exist_ok=True)
        for number, each in enumerate(patients("train")[:count]):
            pixels = (each["image"][0].numpy() * 255).round().astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:04d}.png")
        return load_data(folder)
    # The collapsed one's network is a class of this package.
    model = load_synthesizer(models / name, trust_code=name == "collapsed")
    conditions: Any = None
    if name == "good":
        conditions = RealFields(patients("unseen"), "mask")
    elif name == "blurred":
        conditions = ClassLabels(4)
    return InMemorySource(SyntheticSequence(model, conditions), count)


def judged(name: str, models: Path, out: Path, train: TrainingData, held_out: TrainingData, count: int) -> Any:
    """The evaluation of one set, whose report is written, as numbers."""
    made = synthetic(name, models, count)
    began = time.process_time()
    found = evaluate(made, train, held_out, value_range=(0.0, 1.0))
    seconds = time.process_time() - began
    found.save(out / name.replace(" ", "-"))
    measures = {
        key.split("[")[0]: [result.value, result.floor, result.low, result.high]
        for key, result in found.measures.items()
        if key.endswith("[radiomics-like]")
    }
    return {
        "verdict": found.verdict,
        "reasons": list(found.reasons),
        "kinds": [each.kind for each in found.findings],
        "measures": measures,
        "copies": {key: found.copies[key] for key in ("found", "expected_by_chance", "identical", "calibrated_on")},
        "repeats": found.duplicates["share"],
        "trilemma": dict(found.trilemma),
        "processor_s": seconds,
    }


def drawn(models: Path, path: Path, shown: int = 6, side: int = 116) -> None:
    """Writes a PNG of the first images of each set."""
    sheet = Image.new("L", (shown * side, len(SETS) * (side + 20)), 18)
    for row, name in enumerate(SETS):
        top = row * (side + 20)
        ImageDraw.Draw(sheet).text((6, top + 4), name, fill=255)
        images = RealImages(synthetic(name, models, shown))
        for column in range(shown):
            pixels = (images[column][0].clamp(0, 1).numpy() * 255).round().astype(np.uint8)
            tile = Image.fromarray(pixels).resize((side - 4, side - 4))
            sheet.paste(tile, (column * side + 2, top + 20))
    sheet.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=SETS, action="append")
    parser.add_argument("--count", type=int, default=COUNT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, held_out = (from_factory(f"benchmarks.evaluated.patients:{split}") for split in ("train", "held_out"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only or SETS:
        found = judged(name, arguments.models, arguments.out, train, held_out, arguments.count)
        path = arguments.out / name.replace(" ", "-") / "summary.json"
        path.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {found['verdict']}: {found['reasons'][0]}")
    if arguments.only is None:
        drawn(arguments.models, arguments.out / "sets.png")


if __name__ == "__main__":
    main()
