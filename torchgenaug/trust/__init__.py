"""Whether synthetic images are copies, and whether anything leaks: `CopyDetector`, duplicates, leaks, filters.

``copies/`` (copies of training images, duplicates) · ``leaks/`` (held-out data that training has seen) ·
``filters/`` (keeping the good samples) · ``report/`` (the verdict on a set, and its page, which needs the extra
``study``). Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchgenaug.lazy import lazy_exports

if TYPE_CHECKING:
    from torchgenaug.trust.copies.detector import CopyDetector as CopyDetector
    from torchgenaug.trust.copies.duplicates import Duplicate as Duplicate
    from torchgenaug.trust.copies.duplicates import find_duplicates as find_duplicates
    from torchgenaug.trust.copies.duplicates import find_overlap as find_overlap
    from torchgenaug.trust.copies.report import CopyPair as CopyPair
    from torchgenaug.trust.copies.report import CopyReport as CopyReport
    from torchgenaug.trust.copies.screen import CopyScreen as CopyScreen
    from torchgenaug.trust.filters.coverage import keep_varied as keep_varied
    from torchgenaug.trust.filters.keep import KeptSource as KeptSource
    from torchgenaug.trust.filters.keep import keep as keep
    from torchgenaug.trust.filters.keep import load_kept as load_kept
    from torchgenaug.trust.filters.realism import Density as Density
    from torchgenaug.trust.filters.realism import Realism as Realism
    from torchgenaug.trust.filters.rules import ClassifierConfidence as ClassifierConfidence
    from torchgenaug.trust.filters.rules import DiscriminatorScore as DiscriminatorScore
    from torchgenaug.trust.filters.rules import DistanceToCopies as DistanceToCopies
    from torchgenaug.trust.filters.rules import Rule as Rule
    from torchgenaug.trust.filters.rules import SegmentationAgreement as SegmentationAgreement
    from torchgenaug.trust.leaks.check import Leak as Leak
    from torchgenaug.trust.leaks.check import LeakReport as LeakReport
    from torchgenaug.trust.leaks.check import check_leaks as check_leaks
    from torchgenaug.trust.leaks.validation import validation_only as validation_only
    from torchgenaug.trust.report.evaluate import evaluate as evaluate
    from torchgenaug.trust.report.evaluation import Evaluation as Evaluation

_HOMES = {
    "ClassifierConfidence": "filters.rules",
    "CopyDetector": "copies.detector",
    "CopyPair": "copies.report",
    "CopyReport": "copies.report",
    "CopyScreen": "copies.screen",
    "Density": "filters.realism",
    "DiscriminatorScore": "filters.rules",
    "DistanceToCopies": "filters.rules",
    "Duplicate": "copies.duplicates",
    "Evaluation": "report.evaluation",
    "KeptSource": "filters.keep",
    "Leak": "leaks.check",
    "LeakReport": "leaks.check",
    "Realism": "filters.realism",
    "Rule": "filters.rules",
    "SegmentationAgreement": "filters.rules",
    "check_leaks": "leaks.check",
    "evaluate": "report.evaluate",
    "find_duplicates": "copies.duplicates",
    "find_overlap": "copies.duplicates",
    "keep": "filters.keep",
    "keep_varied": "filters.coverage",
    "load_kept": "filters.keep",
    "validation_only": "leaks.validation",
}

__all__ = [
    "ClassifierConfidence",
    "CopyDetector",
    "CopyPair",
    "CopyReport",
    "CopyScreen",
    "Density",
    "DiscriminatorScore",
    "DistanceToCopies",
    "Duplicate",
    "Evaluation",
    "KeptSource",
    "Leak",
    "LeakReport",
    "Realism",
    "Rule",
    "SegmentationAgreement",
    "check_leaks",
    "evaluate",
    "find_duplicates",
    "find_overlap",
    "keep",
    "keep_varied",
    "load_kept",
    "validation_only",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
