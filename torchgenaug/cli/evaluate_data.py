"""What ``torchgenaug evaluate`` compares: synthetic images, real data, and features by name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchgenaug import ShardSource, SyntheticSequence
from torchgenaug.checksums import read_entries
from torchgenaug.cli.real_data import load_again, reading_of, size_of_generated
from torchgenaug.contracts import Synthesizer, trained_on_of
from torchgenaug.errors import ConfigurationError
from torchgenaug.metrics.features.contract import Features
from torchgenaug.pseudonyms import is_among
from torchgenaug.recipes.data.embedded import LOADERS
from torchgenaug.recipes.data.import_name import call_by_name
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data.patient_split import read_split
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.shards.card import CARD_NAME, about_images, put_evaluation, write_card
from torchgenaug.sources.in_memory import InMemorySource

Size = int | Sequence[int] | None
Reading = Mapping[str, Any]
"""Further arguments of `load_data` for real images: `images`, `masks`, `folders`, `table`, `volumes`, `spacing`."""


def load_synthetic(name: str, real: str, *, size: Size, count: int, seed: int, folders: Any = None) -> Any:
    """A data set of synthetic images.

    Args:
        name: a shard folder or its URL, a saved synthesizer, a folder of images, or ``package.module:factory`` of a
            synthesizer, a sequence or a data set.
        real: how the real data are named, which must not hold the synthetic ones.
        size: to read a folder of images at.
        count: images that a synthesizer generates.
        seed: of these.
        folders: what the subfolders of a folder of images are.

    Raises:
        ConfigurationError: none of these, or a folder inside the real one.
    """
    from torchgenaug.cli.load import is_diffusers_folder, load_sequence

    path = Path(name)
    _check_apart(path, Path(real), name, real, "--real")
    if "://" in name or (path / "manifest.json").exists():
        return ShardSource(name)
    if (path / "synthesizer.json").exists() or is_diffusers_folder(name):
        return InMemorySource(load_sequence(name, seed=seed), count)
    if path.exists():
        if path.is_dir() and path.resolve() in Path(real).resolve().parents:
            raise ConfigurationError(
                f"SYNTHETIC must not hold the real images, got {name!r} with {real!r} in it. They would count as "
                "synthetic. Move them out, or give the folder of the synthetic ones alone."
            )
        return load_data(name, size=size, folders=folders)
    if ":" not in name:
        raise ConfigurationError(
            f"SYNTHETIC must be a shard folder, a saved synthesizer, a folder of images or package.module:factory, got "
            f"{name!r}, which does not exist. Check the path."
        )
    made = call_by_name(name, "SYNTHETIC", "a folder or package.module:factory")
    if isinstance(made, SyntheticSequence):
        return InMemorySource(made, count)
    if isinstance(made, Synthesizer):
        return InMemorySource(load_sequence(name, seed=seed), count)
    if hasattr(made, "__len__") and hasattr(made, "__getitem__"):
        return made
    raise ConfigurationError(
        f"SYNTHETIC must give a synthesizer, a SyntheticSequence or a data set, got {type(made).__name__} from "
        f"{name!r}. Return one of these."
    )


def load_real(
    real: str,
    held_out: str | None,
    synthetic: Any,
    *,
    size: Size,
    model: Path | None = None,
    reading: Reading | None = None,
) -> tuple[TrainingData, TrainingData | None]:
    """The training images, and the real images that training has not seen (None: there are none).

    Without `size`, data that the model was fitted on have the size of what it generates.

    Without `held_out`, the unseen images are the patients that ``fit --split patients`` held out, as the folder `model`
    states, or else what of the real data the model's record does not name, or the held-out part of an embedded set.

    Raises:
        ConfigurationError: data that cannot be read.
    """
    record = trained_on_of(synthetic)
    size = size_of_generated(synthetic, record, real) if size is None else size
    every = load_again(real, record, size, reading)
    if held_out is not None:
        if model is not None:
            _check_apart(model, Path(held_out), str(model), held_out, "--held-out")
        return every, load_data(held_out, size=size, **{**reading_of(record, real), **(reading or {})})
    if real in LOADERS:
        return every, load_data(real, split="held_out", size=size)
    seen = set(map(str, record.get("samples", ()))) if isinstance(record, Mapping) else set()
    known = is_among(every.ids, seen)
    trained = [row for row, each in enumerate(known) if each]
    split = None if model is None else read_split(model)
    if split is None:
        others = [row for row, each in enumerate(known) if not each]
    else:
        others = [row for row, each in enumerate(is_among(every.ids, split.held_out)) if each]
    if every.patients:  # images of a patient who was trained on are not held out
        patients = {every.patients[row] for row in trained}
        others = [row for row in others if every.patients[row] not in patients]
    if not trained or not others:
        return every, None
    return every.select(trained), every.select(others)


def load_features(names: Sequence[str]) -> list[Features]:
    """Features by name: ``radiomics``, ``efficientnet`` or ``package.module:factory``.

    Raises:
        ConfigurationError: another name, or a factory of something else.
        MissingExtraError: the packages of EfficientNet are not installed.
    """
    from torchgenaug.metrics import EfficientNetFeatures, RadiomicsFeatures

    found: list[Features] = []
    for name in names:
        if name == "radiomics":
            found.append(RadiomicsFeatures())
        elif name == "efficientnet":
            found.append(EfficientNetFeatures())
        else:
            made = call_by_name(name, "--features", "radiomics, efficientnet or package.module:factory")
            if not isinstance(made, Features):
                raise ConfigurationError(
                    f"--features must give features (callable on images, with name, sha256 and standardize), got "
                    f"{type(made).__name__} from {name!r}. Wrap a network: torchgenaug.metrics.NetworkFeatures(...)."
                )
            found.append(made)
    return found


def put_into_card(name: str, made: Any, report: Mapping[str, Any]) -> str:
    """Writes verdict and measures into the card of a shard folder or of a saved model; returns a line about it.

    Args:
        name: as in `load_synthetic`.
        made: what `load_synthetic` gave.
        report: what ``report.json`` holds.
    """
    if "://" in name:
        return ""
    folder, model = Path(name), Path(name, "synthesizer.json")
    if isinstance(made, ShardSource):
        folder = made.path
    elif not model.exists():
        return ""
    card = folder / CARD_NAME
    try:
        known = isinstance(made, ShardSource)
        about = about_images(made.fingerprint, len(made)) if known else str(read_entries(model)["fingerprint"])
        if isinstance(made, ShardSource) and not os.path.lexists(card):
            write_card(folder, made.manifest)
        if put_evaluation(folder, report, about):
            return f"Verdict and measures stand in {card}, too."
    except OSError as error:  # a folder that is only read
        return f"{card} was not changed: {error.strerror}."
    return f"{card} is yours: it was not changed." if card.exists() else ""


def _check_apart(synthetic: Path, real: Path, name: str, data: str, option: str) -> None:
    """Refuses a real folder that holds the synthetic images: they would be compared with themselves."""
    if not (synthetic.exists() and real.is_dir()):
        return
    inner, outer = synthetic.resolve(), real.resolve()
    if inner == outer or outer in inner.parents:
        raise ConfigurationError(
            f"{option} must not hold the synthetic images, got {data!r} and SYNTHETIC {name!r} in it. They would be "
            "compared with themselves and pass as real. Move them out, or give the folder of the real ones alone."
        )
