"""Recipes: one short file per family of generative models, one training loop for all, and the data side."""

from torchgenaug.recipes.build import list_families
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.fit import FitResult, fit
from torchgenaug.recipes.options import FitOptions, Options

__all__ = ["FitOptions", "FitResult", "Options", "TrainingData", "fit", "list_families", "load_data"]
