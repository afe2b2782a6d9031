"""The model card of a trained synthesizer: ``README.md`` with the head that the Hugging Face Hub reads."""

from __future__ import annotations

import functools
import math
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.loop import FitResult
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.pairs import pairs_text
from torchgenaug.shards.card import MARK, put_card, read_card, trained_on_text
from torchgenaug.shards.evaluated import find_section, with_section

_LIBRARIES = ("torchgenaug", "torch", "diffusers", "monai", "pythae")


def write_model_card(out: Path, family: str, data: TrainingData, recipe: Options, result: FitResult) -> bool:
    """Writes the card of a model; one that a user changed (without its marker line) stays as it is.

    Names of samples and patients do not enter it, only how many they were.

    Returns:
        Whether it was written.
    """
    section = find_section(read_card(out) or "", result.synthesizer.fingerprint)
    return put_card(out, with_section(model_card_text(family, data, recipe, result), section))


def model_card_text(family: str, data: TrainingData, recipe: Options, result: FitResult) -> str:
    """The card as Markdown with a YAML head."""
    model = result.synthesizer
    fields = "\n".join(f"| `{name}` | {spec} |" for name, spec in model.fields.items())
    given = ", ".join(f"`{name}`" for name in getattr(model, "condition_fields", {})) or recipe.condition or "nothing"
    versions = ", ".join(f"{name} {number}" for name, number in _versions().items())
    seen = trained_on_text(model.trained_on, "synthesizer.json")
    return f"""---
pretty_name: Generator of medical images
license: unknown
library_name: torchgenaug
pipeline_tag: {"image-to-image" if recipe.condition in ("mask", "source") else "unconditional-image-generation"}
tags:
- synthetic
- medical
- torchgenaug
- {family}
---
{MARK}

# Generator of synthetic medical images

A `{family}` model, trained by `torchgenaug fit`. Load it with `torchgenaug.load_synthesizer(folder)`; render images
with `torchgenaug render FOLDER --out shards --count 1000`.

| Field | What it generates |
|---|---|
{fields}

- Conditioned on: {given}
- Fingerprint: `{model.fingerprint}`

## Training

- Trained on: {seen}
- Image size {"x".join(map(str, data.image_shape[1:]))}, {data.image_shape[0]} channel(s)
- {result.steps:,} steps of {recipe.batch_size} samples{"" if result.finished else "; stopped before its end"}
- With {versions}

## What is known of its quality

{_quality(result)}

`torchgenaug evaluate` compares many more images and judges them; nothing of that entered this card.

## Intended use

Images to train models with, together with real ones, and to test software.

## Licence

Unknown. State it in the head: what the training images allow decides.

## Warnings

- What it generates is synthetic. No finding in it is that of a patient.
- Do not validate or test a model on its images.
- Its weights may reproduce training images. {_copies(result)}
"""


def _quality(result: FitResult) -> str:
    if not result.num_judged or math.isnan(result.distance):
        return "Nothing was measured."
    return (
        f"Sliced Wasserstein distance of {result.num_judged} of its images to as many held-out real ones: "
        f"{result.distance:.3f}. Real training images have {result.floor:.3f}, noise {result.noise:.3f}. It compares "
        f"local structure and contrast, not anatomy.{_pairs(result)}"
    )


def _pairs(result: FitResult) -> str:
    text = pairs_text(result.pairs)
    return f" {text}" if text else ""


def _copies(result: FitResult) -> str:
    if math.isnan(result.copied):
        why = (
            "" if math.isnan(result.distance) else ": held-out images are nearer to each other than to training images"
        )
        return f"Whether it does was not measured{why}."
    return (
        f"{result.copied:.0%} of {result.num_judged} images count as copies; by chance {result.copied_reference:.0%}."
    )


@functools.cache  # to parse what is written about a package takes milliseconds
def _versions() -> dict[str, Any]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
