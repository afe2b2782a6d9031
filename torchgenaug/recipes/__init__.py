"""Recipes: one short file per family of generative models, one training loop for all, and the data side."""

from torchgenaug.recipes.data import TrainingData, load_data

__all__ = ["TrainingData", "load_data"]
