"""Mixes synthetic samples into a data set (`SyntheticMixDataset`), or into its incomplete samples (`FillMissing`)."""

from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.mixing.dataset.fill_missing import FillMissing

__all__ = ["FillMissing", "SyntheticMixDataset"]
