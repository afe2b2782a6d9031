"""`FolderStudy`: the study of a file with [data], [task], [synthetic] and [arms], of images with classes or masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.embedded import LOADERS
from torchgenaug.recipes.data.import_name import call_by_name
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data.patient_split import read_split
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.study.arms import Arm, real_transformed, standard_arms
from torchgenaug.study.classification import Classification
from torchgenaug.study.controls import pseudo_labelled, real_sample_transformed
from torchgenaug.study.elastic import BatchElastic
from torchgenaug.study.extent import Extent
from torchgenaug.study.filtering import filtered
from torchgenaug.study.further_images import FurtherImages, further_images
from torchgenaug.study.generators import Generator
from torchgenaug.study.networks import monai_densenet, monai_unet
from torchgenaug.study.rare_classes import balanced_loss, oversampled, topped_up
from torchgenaug.study.real_samples import RealSamples
from torchgenaug.study.schedules import Ramp, pretrained, scheduled
from torchgenaug.study.sections import KINDS, ArmsSection, DataSection, TaskSection
from torchgenaug.study.segmentation import Segmentation
from torchgenaug.study.splits import Split
from torchgenaug.study.study import Study
from torchgenaug.study.transforms import BatchAffine
from torchgenaug.trust.filters.rules import ClassifierConfidence, SegmentationAgreement


@dataclass(frozen=True)
class FolderStudy:
    """Everything in such a file.

    Attributes:
        name: of the study.
        steps: optimizer steps of every arm.
        seeds: how many, or which.
        splits: how often the data are divided anew.
        lengths: see `Extent`, as `shares` and `past_no_headroom`.
        shares: fractions of the real data.
        past_no_headroom: go on where the oracle does not win.
        data: the images.
        task: the network.
        synthetic: the generator.
        arms: what is compared.
    """

    synthetic: Generator
    name: str = "study"
    steps: int = 300
    seeds: int | tuple[int, ...] = 5
    splits: int = 1
    lengths: tuple[int, ...] = (1,)
    shares: tuple[float, ...] = (1.0,)
    past_no_headroom: bool = False
    data: DataSection = field(default_factory=DataSection)
    task: TaskSection = field(default_factory=TaskSection)
    arms: ArmsSection = field(default_factory=ArmsSection)

    def build(self, out: Path, beside: Path) -> Study:
        """The study.

        Args:
            out: folder of the results; generators are trained there.
            beside: folder of the file, to which paths in it are relative.

        Raises:
            ConfigurationError: data without the classes or masks that the task needs.
        """
        everything = self.data.load(beside)
        target = KINDS[self.task.kind]
        if target not in everything.fields:
            other = next((kind for kind, each in KINDS.items() if each in everything.fields), None)
            hint = "Give data with classes or masks." if other is None else f'Set kind = "{other}" in [task].'
            raise ConfigurationError(
                f"`data` must have a {target} for each image in a study of {self.task.kind}, got {everything!r}. {hint}"
            )
        further = None
        if target == "label" and everything.num_unlabelled:
            every = self.data.written(everything)
            further = None if self.data.labelled_only else further_images(every, self.synthetic.family)
            everything = everything.labelled()
        splits, spare = [], {}
        for number in range(self.splits):
            split, rest = self._divide(everything, number, target, beside)
            splits.append(split)
            spare[split.name] = rest
        task = self._task(everything)
        default = "accuracy" if target == "label" else "mean Dice"
        return Study(
            splits,
            self._arms(everything, task, target, spare, _Places(out, beside, splits), further),
            task.train,
            task.measures,
            steps=self.steps,
            seeds=self.seeds,
            metric=self.task.metric or default,
            name=self.name,
            extent=Extent(self.lengths, self.shares, self.past_no_headroom),
        )

    def _divide(self, everything: TrainingData, number: int, target: str, beside: Path) -> tuple[Split, RealSamples]:
        """Split `number`, and all its training samples, which are the oracle's."""
        data = self.data
        if data.held_out:
            train = everything
            validation, test = _embedded_held_out(data).split(0.5, seed=2 * number)
        else:
            if data.split is None:
                rest, test = everything.split(data.test, seed=2 * number)
                tested = data.test
            else:
                rest, test = _saved_split(everything, beside / data.split)
                tested = len(test) / len(everything)
            train, validation = rest.split(data.validation / (1 - tested), seed=2 * number + 1)
        few = train if data.per_class is None else train.limit(data.per_class, seed=number)
        if data.rare:
            few = few.limit(dict.fromkeys(data.rare, data.rare_count), seed=number)
        parts = [RealSamples(data.written(part), target) for part in (few, validation, test, train)]
        return Split(f"split-{number}", *parts[:3]), parts[3]

    def _task(self, data: TrainingData) -> Classification | Segmentation:
        task = self.task
        kind: Any = Classification if task.kind == "classification" else Segmentation
        classes = data.num_classes if task.kind == "classification" else data.num_mask_classes
        networks = {"classification": monai_densenet, "segmentation": monai_unet}
        made: Classification | Segmentation = kind(
            classes,
            data.image_shape[0],
            task.width,
            task.batch_size,
            task.learning_rate,
            task.device,
            data.spatial_dims,
            networks[task.kind] if task.network == "monai" else None,
            **({"rare": self.data.rare} if self.data.rare and task.kind == "classification" else {}),
        )
        return made

    def _arms(
        self,
        data: TrainingData,
        task: Classification | Segmentation,
        target: str,
        spare: dict[str, RealSamples],
        places: _Places,
        further: FurtherImages | None,
    ) -> list[Arm]:
        arms, few = self.arms, self.data.per_class is not None or bool(self.data.rare)
        classes = data.num_classes if target == "label" else None
        made: dict[str, Any] = {}

        def source(split: Split) -> Any:
            if split.name not in made:
                made[split.name] = self.synthetic.source(split, classes, places.out, places.beside, further)
            return made[split.name]

        affine = BatchAffine()
        mix: dict[str, Any] = {"fields": ("image", target), "match": "label" if target == "label" else None}
        found = standard_arms(
            source,
            ratios=arms.ratios,
            **mix,
            oracle_data=(lambda split: spare[split.name]) if few else None,
        )
        if arms.elastic:
            found.append(real_transformed(BatchElastic(), "real, affine and elastic"))
        if arms.transforms is not None:
            own = call_by_name(arms.transforms, "`transforms`")
            found.append(real_sample_transformed(own, fields=("image", target)))
        if arms.rare_classes:
            if target != "label":
                raise ConfigurationError(
                    '`rare_classes` must go with classes, got masks. Leave it out, or set kind = "classification".'
                )
            found += [oversampled(), oversampled(affine, "oversampled, affine")]
            found += [balanced_loss(affine, "balanced loss, affine")]
            found += [topped_up(source), topped_up(source, transform=affine, name="topped up, affine")]
        if arms.filtered:
            rule = self._rule(task, target)
            middle = arms.ratios[len(arms.ratios) // 2]
            found += filtered(
                source, rule, middle, within=mix["match"], transform=affine, name="filtered, affine", **mix
            )
        if arms.pretrained:
            found.append(pretrained(source, transform=affine, name="pretrained on synthetic, affine", **mix))
        if arms.schedule:
            ramp = Ramp(max(arms.ratios), 0.0)
            found.append(scheduled(source, ramp, transform=affine, name="ratio schedule, affine", **mix))
        if further is not None:
            found.append(self._pseudo_labelled(task, target, further.of, "pseudo-labels, affine"))
        elif arms.pseudo_labels:
            found.append(self._pseudo_labels(task, target, spare))
        about = {} if further is None else {split.name: further.about(split) for split in places.splits}
        return [_with_source(arm, self.synthetic, about) if arm.role == "synthetic" else arm for arm in found]

    def _rule(self, task: Classification | Segmentation, target: str) -> Callable[[Split], Any]:
        def rule(split: Split) -> Any:
            network = task.train(real_transformed(BatchAffine()).build(split, 0), 0, self.steps)
            return ClassifierConfidence(network) if target == "label" else SegmentationAgreement(network)

        return rule

    def _pseudo_labels(self, task: Classification | Segmentation, target: str, spare: dict[str, RealSamples]) -> Arm:
        """A reference: the generator of the study did not see these images."""
        if self.data.per_class is None:
            raise ConfigurationError(
                "`pseudo_labels` must go with `per_class`, got none. All training images have labels. Set "
                "per_class = 3 in [data], or leave pseudo_labels out."
            )
        arm = self._pseudo_labelled(
            task, target, lambda split: spare[split.name], "pseudo-labels, affine (more images)"
        )
        return Arm(arm.name, "reference", arm.build, arm.source, arm.settings)

    def _pseudo_labelled(
        self, task: Classification | Segmentation, target: str, images: Callable[[Split], Any], name: str
    ) -> Arm:
        return pseudo_labelled(
            images,
            task.train,
            task.probabilities,
            self.steps,
            transform=BatchAffine(),
            keys=("image", target),
            name=name,
        )


class _Places(NamedTuple):
    """Folder of the results, what paths in the file are relative to, and how the data are divided."""

    out: Path
    beside: Path
    splits: Sequence[Split]


def _with_source(arm: Arm, generator: Generator, further: Mapping[str, str]) -> Arm:
    settings = {**arm.settings, "synthetic": repr(generator), **({"unlabelled": further} if further else {})}
    return Arm(arm.name, arm.role, arm.build, arm.source, settings)


def _embedded_held_out(data: DataSection) -> TrainingData:
    """The held-out part of an embedded set."""
    if data.name not in LOADERS or data.split is not None:
        raise ConfigurationError(
            f"`held_out` must go with an embedded set ({', '.join(LOADERS)}) and without `split`, got {data.name!r}. "
            "Other data have no such part. Leave it out to divide the data."
        )
    return load_data(data.name, split="held_out")


def _saved_split(everything: TrainingData, path: Path) -> tuple[TrainingData, TrainingData]:
    """What ``fit --split patients`` trained on, and what it held out."""
    saved = read_split(path)
    if saved is None:
        raise ConfigurationError(
            f"`split` must be a folder that `torchgenaug fit --split patients` wrote, or its split.json, got "
            f"{str(path)!r}. Leave it out to divide the data anew."
        )
    return saved.of(everything)
