"""Small real data sets that install from the package registry: brain MR slices and volumes, digits, nuclei."""

from torchgenaug.datasets.brain import BrainSlices

__all__ = ["BrainSlices"]
