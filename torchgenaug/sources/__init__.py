"""Sources built from other sources: several as one (`CombinedSource`), and selected or balanced classes."""

from torchgenaug.sources.combined import CombinedSource
from torchgenaug.sources.selected import SelectedSource, balance_classes, keep_classes

__all__ = ["CombinedSource", "SelectedSource", "balance_classes", "keep_classes"]
