"""Whether synthetic data help: arms compared at equal optimizer steps, with intervals and a verdict.

`Study` runs arms (`standard_arms`, `mixed`, …) over seeds and `Split`s; the command is ``torchgenaug study``. Names are
imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchgenaug.lazy import lazy_exports

if TYPE_CHECKING:
    from torchgenaug.study.arms import Arm as Arm
    from torchgenaug.study.arms import mixed as mixed
    from torchgenaug.study.arms import oracle as oracle
    from torchgenaug.study.arms import real_repeated as real_repeated
    from torchgenaug.study.arms import real_transformed as real_transformed
    from torchgenaug.study.arms import standard_arms as standard_arms
    from torchgenaug.study.classification import Classification as Classification
    from torchgenaug.study.controls import pseudo_labelled as pseudo_labelled
    from torchgenaug.study.controls import real_sample_transformed as real_sample_transformed
    from torchgenaug.study.controls import retrieved as retrieved
    from torchgenaug.study.controls import translated as translated
    from torchgenaug.study.elastic import BatchElastic as BatchElastic
    from torchgenaug.study.engine_jobs import StudyJob as StudyJob
    from torchgenaug.study.engine_jobs import run_study_job as run_study_job
    from torchgenaug.study.engine_jobs import study_jobs as study_jobs
    from torchgenaug.study.extent import Extent as Extent
    from torchgenaug.study.filtering import filtered as filtered
    from torchgenaug.study.intensity_maps import RandomIntensityMap as RandomIntensityMap
    from torchgenaug.study.lightning_training import LightningTraining as LightningTraining
    from torchgenaug.study.rare_classes import balanced_loss as balanced_loss
    from torchgenaug.study.rare_classes import oversampled as oversampled
    from torchgenaug.study.rare_classes import topped_up as topped_up
    from torchgenaug.study.schedules import Ramp as Ramp
    from torchgenaug.study.schedules import pretrained as pretrained
    from torchgenaug.study.schedules import scheduled as scheduled
    from torchgenaug.study.segmentation import Segmentation as Segmentation
    from torchgenaug.study.splits import Split as Split
    from torchgenaug.study.statistics import compare as compare
    from torchgenaug.study.statistics import holm as holm
    from torchgenaug.study.statistics import interval as interval
    from torchgenaug.study.study import Study as Study
    from torchgenaug.study.transforms import BatchAffine as BatchAffine
    from torchgenaug.study.transforms import BatchTransformed as BatchTransformed
    from torchgenaug.study.translation import Translation as Translation

_HOMES = {
    "Arm": "arms",
    "BatchAffine": "transforms",
    "BatchElastic": "elastic",
    "BatchTransformed": "transforms",
    "Classification": "classification",
    "Extent": "extent",
    "LightningTraining": "lightning_training",
    "Ramp": "schedules",
    "RandomIntensityMap": "intensity_maps",
    "Segmentation": "segmentation",
    "Split": "splits",
    "Study": "study",
    "StudyJob": "engine_jobs",
    "Translation": "translation",
    "balanced_loss": "rare_classes",
    "compare": "statistics",
    "filtered": "filtering",
    "holm": "statistics",
    "interval": "statistics",
    "mixed": "arms",
    "oracle": "arms",
    "oversampled": "rare_classes",
    "pretrained": "schedules",
    "pseudo_labelled": "controls",
    "real_repeated": "arms",
    "real_sample_transformed": "controls",
    "real_transformed": "arms",
    "retrieved": "controls",
    "run_study_job": "engine_jobs",
    "scheduled": "schedules",
    "standard_arms": "arms",
    "study_jobs": "engine_jobs",
    "topped_up": "rare_classes",
    "translated": "controls",
}

__all__ = [
    "Arm",
    "BatchAffine",
    "BatchElastic",
    "BatchTransformed",
    "Classification",
    "Extent",
    "LightningTraining",
    "Ramp",
    "RandomIntensityMap",
    "Segmentation",
    "Split",
    "Study",
    "StudyJob",
    "Translation",
    "balanced_loss",
    "compare",
    "filtered",
    "holm",
    "interval",
    "mixed",
    "oracle",
    "oversampled",
    "pretrained",
    "pseudo_labelled",
    "real_repeated",
    "real_sample_transformed",
    "real_transformed",
    "retrieved",
    "run_study_job",
    "scheduled",
    "standard_arms",
    "study_jobs",
    "topped_up",
    "translated",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
