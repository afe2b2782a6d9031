"""Synthetic rows in the batches of a loader that exists: `SyntheticMixLoader`, and what it is made of."""

from torchgenaug.loader.mix_loader import SyntheticMixLoader

__all__ = ["SyntheticMixLoader"]
