"""The main job on real brain MR, in minutes, on a laptop: ``torchgenaug demo``."""

from pathlib import Path

from torchgenaug.datasets.brain import BrainSlices

WEIGHTS = Path(__file__).parent / "weights"
"""A small diffusion model of (image, tissue mask), trained by ``python -m torchgenaug.demo.train``."""

__all__ = ["WEIGHTS", "BrainSlices"]
