"""Conditions of each sample: class labels, covariates, prompts, or fields taken from real data."""

from __future__ import annotations

from torchgenaug.conditions.class_prompts import ClassPrompts
from torchgenaug.conditions.counterfactuals import Counterfactuals
from torchgenaug.conditions.covariates import Covariates
from torchgenaug.conditions.fill import FillClasses
from torchgenaug.conditions.joint import JointConditions
from torchgenaug.conditions.labels import ClassLabels
from torchgenaug.conditions.placed_lesions import PlacedLesions
from torchgenaug.conditions.prompts import Prompts
from torchgenaug.conditions.real import RealFields

__all__ = [
    "ClassLabels",
    "ClassPrompts",
    "Counterfactuals",
    "Covariates",
    "FillClasses",
    "JointConditions",
    "PlacedLesions",
    "Prompts",
    "RealFields",
]
