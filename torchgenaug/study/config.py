"""`load_study`: a study from a TOML file, with built-in data, task and generators, or from a function of the user."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.import_name import call_by_name
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data.patient_split import read_split
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.study.arms import standard_arms
from torchgenaug.study.classification import Classification
from torchgenaug.study.cross_modality import CrossModality
from torchgenaug.study.few_labels import FewLabels
from torchgenaug.study.generators import Generator
from torchgenaug.study.real_samples import RealSamples
from torchgenaug.study.splits import Split
from torchgenaug.study.study import Study

EXAMPLES = {
    "digits": """\
# Three real digits per class. Does a generator that saw only these help the classifier?
# Run it:  torchgenaug study digits.toml --out digits-study
name = "digits, 3 per class"
steps = 300        # optimizer steps of every arm
seeds = 5          # initial weights and orders of samples
splits = 1         # how often the data are divided anew; 5 or more for an interval over patients

[data]
name = "digits"    # or a folder of images by class, or package.module:factory
per_class = 3      # real training samples per class; the other training samples are the oracle's
validation = 0.2   # fraction of the patients, or of the samples where no patients are known
test = 0.2         # or split = "FOLDER" of a model by `fit --split patients`: its held-out patients

[task]             # classification by a small network; images of one channel or several, in 2D
batch_size = 32
learning_rate = 3e-3

[synthetic]
family = "acgan"   # trained on the training data of each split; or model = "FOLDER", or shards = "FOLDER"
steps = 500
count = 200

[arms]
ratios = [0.25, 0.5, 0.75]
""",
    "cross-modality": """\
# Masks exist for T1 slices, the segmenter is used on T2 slices. Does translating the labelled slices help?
# Simulated contrasts of one brain. Run it:  torchgenaug study cross-modality.toml --out cross-modality-study
name = "cross-modality, T1 to T2"

[cross_modality]
labelled = 16            # T1 slices with masks
translator_steps = 600   # of pix2pix, on pairs without masks of other places
steps = 300              # optimizer steps of the segmenter in every arm
seeds = 5                # initial weights and orders of samples
batch_size = 8           # of the segmenter
""",
    "few-labels": """\
# Two labelled digits per class here, 3,000 unlabelled ones at a site whose images may not leave it. Its generator may.
# Run it:  torchgenaug study few-labels.toml --out few-labels-study
name = "few labels, many unlabelled images elsewhere"

[few_labels]
per_class = 2            # labelled digits of each class
unlabelled = 3000        # digits at the other site, labelled there by a classifier of the few
generator_steps = 2000   # of acgan, at the other site
generated = 2000         # images that it hands out
steps = 300              # optimizer steps of the classifier in every arm
seeds = 5                # initial weights and orders of samples
lengths = [1, 3]         # trained for 300 and for 900 steps: does a verdict depend on it?
""",
    "own": """\
# Your own data, network and arms: a function without arguments that returns a torchgenaug.study.Study.
study = "my_package.my_study:build"
""",
}
"""Name → a complete file to start from."""
_BUILT_IN: Mapping[str, Any] = {"cross_modality": CrossModality, "few_labels": FewLabels}


@dataclass(frozen=True)
class _Data:
    name: str = "digits"
    per_class: int | None = None
    validation: float = 0.2
    test: float = 0.2
    split: str | None = None


@dataclass(frozen=True)
class _Task:
    width: int = 16
    batch_size: int = 32
    learning_rate: float = 3e-3
    device: str = "cpu"


@dataclass(frozen=True)
class _Arms:
    ratios: tuple[float, ...] = (0.25, 0.5, 0.75)


def load_study(path: str | Path, out: str | Path) -> Study:
    """The study that a TOML file describes; `EXAMPLES` are such files.

    Args:
        path: of the file. Folders that it names are relative to it.
        out: folder of the results; generators that the study trains are kept there.

    Raises:
        ConfigurationError: no such file, not TOML, or entries that a study does not have.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"`FILE` must be a TOML file, got {str(path)!r}, which is not there. Print one to start from: "
            "torchgenaug study --example digits"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"`FILE` must be a TOML file, got {str(path)!r}: {error}. Compare it with: torchgenaug study --example "
            "digits"
        ) from error
    if "study" in document:
        _known(document, ("study",), "a file with `study`")
        study = call_by_name(document["study"], "`study`")
        if not isinstance(study, Study):
            raise ConfigurationError(
                f"`study` must name a function that returns a torchgenaug.study.Study, got {type(study).__name__}."
            )
        return study
    for section, kind in _BUILT_IN.items():
        if section in document:
            _known(document, ("name", section), f"a file with [{section}]")
            built: Study = _section(document, section, kind).build(Path(out), str(document.get("name", path.stem)))
            return built
    _known(document, ("name", "steps", "seeds", "splits", "data", "task", "synthetic", "arms"), "the file")
    return _built_in(document, path, Path(out))


def _built_in(document: Mapping[str, Any], path: Path, out: Path) -> Study:
    data, task = _section(document, "data", _Data), _section(document, "task", _Task)
    generator, arms = _section(document, "synthetic", Generator), _section(document, "arms", _Arms)
    beside = path.parent / data.name
    everything = load_data(beside if beside.exists() else data.name)
    if everything.num_classes is None or everything.spatial_dims != 2:
        raise ConfigurationError(
            f"`data` must be 2D images with a class each, got {everything!r}. The task that is built in is "
            'classification. For any other task write a function: study = "my_package.my_study:build".'
        )
    splits, spare = [], {}
    for number in range(int(document.get("splits", 1))):
        split, rest = _divide(everything, data, number, path.parent)
        splits.append(split)
        spare[split.name] = rest
    network = Classification(everything.num_classes, everything.image_shape[0], **vars(task))
    return Study(
        splits,
        standard_arms(
            lambda split: generator.source(split, everything.num_classes or 0, out, path.parent),
            ratios=arms.ratios,
            fields=("image", "label"),
            match="label",
            oracle_data=None if data.per_class is None else lambda split: spare[split.name],
        ),
        network.train,
        network.score,
        steps=int(document.get("steps", 300)),
        seeds=document.get("seeds", 5),
        metric="accuracy",
        name=str(document.get("name", path.stem)),
    )


def _divide(everything: TrainingData, data: _Data, number: int, folder: Path) -> tuple[Split, RealSamples]:
    """Split `number`, and all its training samples, which are the oracle's."""
    if data.split is None:
        rest, test = everything.split(data.test, seed=2 * number)
        tested = data.test
    else:
        rest, test = _saved_split(everything, folder / data.split)
        tested = len(test) / len(everything)
    train, validation = rest.split(data.validation / (1 - tested), seed=2 * number + 1)
    few = train if data.per_class is None else train.limit(data.per_class, seed=number)
    return Split(f"split-{number}", RealSamples(few), RealSamples(validation), RealSamples(test)), RealSamples(train)


def _saved_split(everything: TrainingData, path: Path) -> tuple[TrainingData, TrainingData]:
    """What ``fit --split patients`` trained on, and what it held out."""
    saved = read_split(path)
    if saved is None:
        raise ConfigurationError(
            f"`split` must be a folder that `torchgenaug fit --split patients` wrote, or its split.json, got "
            f"{str(path)!r}. Leave it out to divide the data anew."
        )
    return saved.of(everything)


def _section(document: Mapping[str, Any], name: str, kind: Any) -> Any:
    values = document.get(name, {})
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"`{name}` must be a table, got {values!r}. Write it as [{name}].")
    _known(values, [each.name for each in fields(kind)], f"[{name}]")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _known(values: Mapping[str, Any], known: Any, place: str) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigurationError(
            f"`FILE` must hold nothing but what a study knows, got {unknown} in {place}. It would have no effect. "
            f"Known there: {', '.join(known)}."
        )
