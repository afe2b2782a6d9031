"""`spread`: places of draws that are spread evenly over an epoch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from torchgenaug.seeding import Int64Array


def spread(index: Int64Array, drawn: int, total: int) -> tuple[Int64Array, npt.NDArray[np.bool_]]:
    """How many draws lie before each index where `drawn` of `total` are spread evenly, and whether one is there."""
    if 2 * drawn * (total + 1) + total >= 1 << 63:
        index = index.astype(object)  # Python's integers do not overflow
    draw = (2 * drawn * index + total) // (2 * total)
    after = (2 * drawn * (index + 1) + total) // (2 * total)
    return draw.astype(np.int64), (after > draw).astype(np.bool_)
