"""`SyntheticSequence`: the infinite indexed sequence of a synthesizer's samples, where every sample is generated."""

from torchgenaug.sequence.sequence import SyntheticSequence

__all__ = ["SyntheticSequence"]
