"""`open_accelerator`: where a training run computes, and with which precision."""

from __future__ import annotations

from typing import Any

from torchgenaug.recipes.options import FitOptions


def open_accelerator(device: str | None, options: FitOptions) -> Any:
    """The `accelerate.Accelerator` of a run.

    Args:
        device: ``"cpu"``, or None for a GPU where there is one.
        options: of the loop; `precision` counts.
    """
    from accelerate import Accelerator

    return Accelerator(cpu=device == "cpu", mixed_precision=options.precision)
