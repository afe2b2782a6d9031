"""Recipes: one short file per family of generative models, one training loop for all, and the data side."""

from torchgenaug.recipes.data import TrainingData, load_data
from torchgenaug.recipes.fit import FitResult, fit
from torchgenaug.recipes.options import FitOptions
from torchgenaug.recipes.recipe import Options, families

__all__ = ["FitOptions", "FitResult", "Options", "TrainingData", "families", "fit", "load_data"]
