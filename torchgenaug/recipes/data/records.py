"""`FileRecord`: the files of one sample, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.listing import some
from torchgenaug.recipes.data.parts import Part


@dataclass(frozen=True)
class FileRecord:
    """The files of one sample.

    Args:
        image: its image file, or one file per channel.
        key: the image's path below the folder, which is the sample's id.
        mask: its mask, or several that are united; empty without one.
        source: the image to translate from; empty without one.
        label: number of its class; NaN where only those of others are known.
        patient: whose image it is, where that is known.
    """

    image: tuple[Part, ...]
    key: str
    mask: tuple[Part, ...] = ()
    source: tuple[Part, ...] = ()
    label: float | None = None
    patient: str | None = None


@dataclass(frozen=True)
class Layout:
    """What a folder was recognised as.

    Args:
        records: the samples, in the order of their paths.
        class_names: of the classes; empty: the numbers are the names.
        remarks: what was recognised, and what is not used, a sentence each.
    """

    records: tuple[FileRecord, ...]
    class_names: tuple[str, ...]
    remarks: tuple[str, ...]


def patients_of(records: Sequence[FileRecord]) -> tuple[str, ...]:
    """Whose each sample is; empty where nobody is known.

    Raises:
        ConfigurationError: patients of some samples only.
    """
    unknown = [each.key for each in records if each.patient is None]
    if len(unknown) == len(records):
        return ()
    if unknown:
        raise ConfigurationError(
            f"The patient must be known of every sample or of none, got {len(records) - len(unknown)} known, "
            f"{len(unknown)} not: {some(unknown)}. Put sub-XXX into their paths, or a column patient into labels.csv."
        )
    return tuple(each.patient or "" for each in records)
