"""Where the rendered translation of each sample lies, for `FillMissing`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.samples.layout import PARENT

_COMPARED = 0.02  # of the range: shards may hold intensities in 8 bits


def rendered_positions(
    rendered: SyntheticSource,
    missing: npt.NDArray[np.int64],
    wanted: str,
    condition: str,
    read_source: Callable[[int], Tensor],
) -> dict[int, int]:
    """Index in the real set → position in the render of its translation.

    Args:
        rendered: the translations, with the index in the real set as ``parent``.
        missing: indices of the samples that are filled.
        wanted: what they lack, for messages.
        condition: name of the field that holds what was translated, if it was rendered too.
        read_source: index → what that sample is translated from.

    Raises:
        ConfigurationError: a render that does not name its parents.
        FieldMismatchError: a sample without a translation, or translations of other samples.
    """
    if PARENT not in rendered.fields:
        raise ConfigurationError(
            f"`translations` must hold the field {PARENT!r}, got {sorted(rendered.fields)}. Render "
            "FillMissing(...).sequence, which has it."
        )
    parents = rendered.column(PARENT).tolist()
    positions = {int(parent): position for position, parent in reversed(list(enumerate(parents)))}
    absent = [int(index) for index in missing if int(index) not in positions]
    if absent:
        raise FieldMismatchError(
            f"`translations` must hold all {len(missing)} samples that lack {wanted}, got none for "
            f"{absent[:8]}. Render FillMissing(...).sequence with count=len(missing)."
        )
    first = int(missing[0])
    if condition in rendered.fields:
        there = rendered.read(np.array([positions[first]]))[condition][0].float()
        here = read_source(first)
        here = here.reshape(there.shape) if here.numel() == there.numel() else here
        width = float(here.max() - here.min())
        if here.shape != there.shape or float((here - there).abs().max()) > _COMPARED * max(width, 1e-6):
            raise FieldMismatchError(
                f"`translations` must be of these samples, got another {condition!r} for sample {first}. They were "
                "rendered from another data set or split. Render FillMissing(...).sequence of this one."
            )
    return positions
