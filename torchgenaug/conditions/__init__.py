"""What is asked of a synthesizer for each sample: class labels, or fields taken from real data."""

from __future__ import annotations

from torchgenaug.conditions.labels import ClassLabels
from torchgenaug.conditions.real import RealFields

__all__ = ["ClassLabels", "RealFields"]
