"""Names of transforms in the history that MONAI keeps with an image, which `Invertd` compares with its transform."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def copied_transform(transform: Any) -> tuple[Any, dict[int, int]]:
    """A copy of a transform, and ``id`` of each part of the copy → ``id`` of the part that it was copied from.

    Returns the transform itself, and nothing, where a part cannot be copied.
    """
    memo: dict[int, Any] = {}
    try:
        copied = copy.deepcopy(transform, memo)
    except Exception:  # whatever a part raises that cannot be copied
        return transform, {}
    return copied, {id(part): original for original, part in memo.items() if hasattr(part, "inverse")}


def name_originals(value: Any, originals: Mapping[int, int]) -> None:
    """Writes the ids of the original transforms into the history of every image in a sample, in place.

    MONAI notes ``id(transform)`` for each step, and its inverse refuses a step that another object has taken.
    """
    for history in ("applied_operations", "pending_operations"):
        _rename(getattr(value, history, None), originals)
    if isinstance(value, Mapping):
        for part in value.values():
            name_originals(part, originals)
    elif isinstance(value, (list, tuple)):
        for part in value:
            name_originals(part, originals)


def _rename(step: Any, originals: Mapping[int, int]) -> None:
    if isinstance(step, list):
        for part in step:
            _rename(part, originals)
    elif isinstance(step, dict):
        number = step.get("id")
        if isinstance(number, int) and number in originals:
            step["id"] = originals[number]
        for part in step.values():
            _rename(part, originals)
