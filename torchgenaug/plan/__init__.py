"""Decides which positions of an epoch are synthetic: `MixPlan` for data sets, `BatchPlan` for loaders. NumPy only."""

from torchgenaug.plan.batch_plan import BatchPlan
from torchgenaug.plan.mix_plan import MixPlan

__all__ = ["BatchPlan", "MixPlan"]
