"""Training data of a recipe: `TrainingData`, read from folders, factories or embedded sets by `load_data`."""
