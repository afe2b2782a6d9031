"""What the options of ``torchgenaug fit`` with a few choices accept."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal


class Condition(StrEnum):
    """What ``--condition`` accepts."""

    none = "none"
    label = "label"
    mask = "mask"
    source = "source"


CONDITIONS: Mapping[Condition, Literal["label", "mask", "source"] | None] = {
    Condition.none: None,
    Condition.label: "label",
    Condition.mask: "mask",
    Condition.source: "source",
}


class Folders(StrEnum):
    """What ``--folders`` accepts."""

    classes = "classes"
    patients = "patients"
    ignore = "ignore"


class SplitBy(StrEnum):
    """What ``--split`` accepts."""

    patients = "patients"


class Precision(StrEnum):
    """What ``--precision`` accepts."""

    no = "no"
    bf16 = "bf16"
    fp16 = "fp16"
