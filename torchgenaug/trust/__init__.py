"""Whether synthetic images are copies, and whether anything leaks: `CopyDetector`, duplicates, leaks, filters.

``copies/`` (copies of training images, duplicates) · ``leaks/`` (held-out data that training has seen). Names are
imported when they are first used; no extra is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchgenaug.trust.copies.detector import CopyDetector as CopyDetector
    from torchgenaug.trust.copies.duplicates import Duplicate as Duplicate
    from torchgenaug.trust.copies.duplicates import find_duplicates as find_duplicates
    from torchgenaug.trust.copies.duplicates import find_overlap as find_overlap
    from torchgenaug.trust.copies.report import CopyPair as CopyPair
    from torchgenaug.trust.copies.report import CopyReport as CopyReport
    from torchgenaug.trust.leaks.check import Leak as Leak
    from torchgenaug.trust.leaks.check import LeakReport as LeakReport
    from torchgenaug.trust.leaks.check import check_leaks as check_leaks
    from torchgenaug.trust.leaks.validation import validation_only as validation_only

_HOMES = {
    "CopyDetector": "copies.detector",
    "CopyPair": "copies.report",
    "CopyReport": "copies.report",
    "Duplicate": "copies.duplicates",
    "Leak": "leaks.check",
    "LeakReport": "leaks.check",
    "check_leaks": "leaks.check",
    "find_duplicates": "copies.duplicates",
    "find_overlap": "copies.duplicates",
    "validation_only": "leaks.validation",
}

__all__ = [
    "CopyDetector",
    "CopyPair",
    "CopyReport",
    "Duplicate",
    "Leak",
    "LeakReport",
    "check_leaks",
    "find_duplicates",
    "find_overlap",
    "validation_only",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
