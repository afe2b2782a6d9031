"""`Split`: training, validation and test data, real only, and the check that they share nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torchgenaug.errors import ConfigurationError, LeakError
from torchgenaug.trust.leaks.check import check_leaks
from torchgenaug.trust.leaks.real_images import names_of

_SHOWN = 3


@dataclass(frozen=True)
class Split:
    """One way to divide the real samples, by patient.

    Attributes:
        name: of the split; part of the key of its runs.
        train: map-style data set that arms train on, and the only one that the generator may have seen.
        validation: on which the best control and the best ratio are chosen.
        test: on which arms are compared.
    """

    name: str
    train: Any
    validation: Any
    test: Any

    @property
    def held_out(self) -> dict[str, Any]:
        """What no arm may train on: name → data set."""
        return {"validation": self.validation, "test": self.test}


def check_split(split: Split) -> list[str]:
    """Checks that training, validation and test data share no id, no patient and no image.

    Returns:
        What could not be compared: a sentence each.

    Raises:
        LeakError: they share some.
        ConfigurationError: one of them is empty.
    """
    parts = {"train": split.train, **split.held_out}
    for name, data in parts.items():
        if len(data) == 0:
            raise ConfigurationError(
                f"`{name}` of split {split.name!r} must hold samples, got 0. There is nothing to compare. Divide the "
                "data into larger parts."
            )
    notes: list[str] = []
    for kind in ("patients", "ids"):
        names = {part: names_of(data, kind) for part, data in parts.items()}
        for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
            shared = sorted(set(names[first]) & set(names[second]))
            if shared:
                shown = ", ".join(shared[:_SHOWN]) + (", …" if len(shared) > _SHOWN else "")
                raise LeakError(
                    f"`{first}` and `{second}` of split {split.name!r} must share no {kind}, got {len(shared)} "
                    f"in both: {shown}. The scores would be too good. Divide the data by patient."
                )
        if not all(names.values()):
            notes.append(f"Split {split.name!r}: {kind} were not compared, because a data set states none.")
    return notes + refuse_leaks(None, split, train=split.train, what="`train`")


def refuse_leaks(source: Any, split: Split, *, train: Any, what: str) -> list[str]:
    """Refuses a source or a training set that holds, or was trained on, validation or test data of a split.

    Returns:
        What could not be compared.

    Raises:
        LeakError: it does.
    """
    try:
        report = check_leaks(source, split.held_out, train=train)
    except ConfigurationError as error:  # samples without images
        return [f"Split {split.name!r}: the content of {what} was not compared: {error}"]
    if report:
        raise LeakError(
            f"{what} must hold nothing of the validation and test data of split {split.name!r}, got:\n{report}\n"
            "The arm would win by knowing the answers. Generate from the training data of this split alone."
        )
    return [f"Split {split.name!r}, {what}: {note}" for note in report.not_compared if "give train=" not in note]


def test_share(splits: Sequence[Split]) -> float:
    """n_test / n_train where splits repeat (Nadeau and Bengio, 2003); 0 for a single split."""
    if len(splits) < 2:
        return 0.0
    return sum(len(split.test) / len(split.train) for split in splits) / len(splits)
