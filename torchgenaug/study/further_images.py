"""`FurtherImages`: images without a label in the data of a study file, from which the generator may learn."""

from __future__ import annotations

from dataclasses import dataclass, field

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.build import describe_family, list_families
from torchgenaug.recipes.data.training_data import UNLABELLED, TrainingData
from torchgenaug.recipes.data_fingerprint import data_fingerprint
from torchgenaug.study.real_samples import RealSamples
from torchgenaug.study.splits import Split, refuse_leaks
from torchgenaug.trust.leaks.real_images import names_of


@dataclass(frozen=True)
class FurtherImages:
    """Images without a label, which the classifier cannot use and the generator can.

    Attributes:
        data: the labelled images, and these.
    """

    data: TrainingData
    _found: dict[str, RealSamples] = field(default_factory=dict, init=False, repr=False, compare=False)

    def of(self, split: Split) -> RealSamples:
        """Those that the generator of a split sees: none of a patient of its validation and test data.

        Raises:
            ConfigurationError: all of them are of such patients.
            LeakError: an image of the validation or test data is among them, under another name.
        """
        if split.name in self._found:
            return self._found[split.name]
        data = self._unlabelled
        held_out = {patient for part in split.held_out.values() for patient in names_of(part, "patients")}
        if data.patients:
            data = data.select([row for row, each in enumerate(data.patients) if each not in held_out])
        if not len(data):
            raise ConfigurationError(
                f"`data` must hold images without a label of other patients than those of the validation and test data "
                f"of split {split.name!r}, got {len(self._unlabelled)} of these alone. The generator may see none of "
                "them. Leave them out: labelled_only = true in [data]."
            )
        samples = RealSamples(data)
        refuse_leaks(None, split, train=samples, what="the images without a label")
        return self._found.setdefault(split.name, samples)

    def with_labelled(self, split: Split) -> TrainingData:
        """What the generator of a split is trained on: the split's training data, and `of` it."""
        wanted = {*split.train.ids, *self.of(split).ids}
        return self.data.select([row for row, each in enumerate(self.data.ids) if each in wanted])

    def about(self, split: Split) -> str:
        """How many the generator sees, what identifies them, and how many are left out."""
        count, used = len(self._unlabelled), len(self.of(split))
        rest = f", {count - used} of held-out patients left out" if used < count else ""
        content = data_fingerprint(self.of(split).training_data)[:12]
        return f"{used} images without a label ({content}) in the generator's training{rest}"

    @property
    def _unlabelled(self) -> TrainingData:
        labels = self.data.labels()
        return self.data.select([row for row, each in enumerate(labels) if each == UNLABELLED])  # type: ignore[arg-type]


def further_images(data: TrainingData, family: str | None) -> FurtherImages:
    """The images without a label of `data`, for a generator of `family`.

    Raises:
        ConfigurationError: a family that cannot learn from them, or a generator that is trained elsewhere (None).
    """
    if family is not None and describe_family(family).unlabelled:
        return FurtherImages(data)
    able = [name for name in list_families() if describe_family(name).unlabelled]
    got = "a generator that is trained already" if family is None else f"the family {family!r}"
    raise ConfigurationError(
        f"`data` must have a label for each image with {got}, got {data.num_unlabelled} of {len(data)} without one. "
        f"Only these families learn from them: {', '.join(able)}. Take one of them, or leave the images out: "
        "labelled_only = true in [data]."
    )
