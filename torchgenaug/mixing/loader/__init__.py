"""Mixes synthetic rows into the batches of an existing loader: `SyntheticMixLoader`, and its parts."""

from torchgenaug.mixing.loader.mix_loader import SyntheticMixLoader

__all__ = ["SyntheticMixLoader"]
