"""Checks of newly generated samples, beyond those that `SyntheticSequence` always makes (finite, shape, dtype, range).

``constant`` (images without content: refused by default) · ``collapse`` (a model that gives the same images
again and again) · ``likeness`` (which images of a batch look alike) · ``fields`` (which fields are judged).

A screen that raises is a pure function of the batch that it is given: whether a sample passes never depends on what was
made before.
"""

from torchgenaug.screens.collapse import CollapseScreen, CollapseWatch
from torchgenaug.screens.constant import ConstantScreen, default_screens

__all__ = ["CollapseScreen", "CollapseWatch", "ConstantScreen", "default_screens"]
