"""What a field is (image, label map or scalar), where nobody states it."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from torchgenaug.types import FieldKind


def infer_kind(name: str, value: Any) -> FieldKind:
    """What a field is, where nobody says it: by the class of a torchio image, else by name, else by dtype.

    Arrays called mask, seg… or label… are label maps; others are images if they are of a floating-point dtype or called
    image, img, scan or volume; the rest, integers, are label maps. Fewer than two axes make a scalar.
    """
    if type(value).__module__.startswith("torchio."):
        return "label_map" if any(base.__name__ == "LabelMap" for base in type(value).__mro__) else "intensity"
    if not isinstance(value, (Tensor, np.ndarray)) or value.ndim < 2:
        return "scalar"
    lowered = name.lower()
    if any(word in lowered for word in ("mask", "seg", "label")):
        return "label_map"
    floating = value.dtype.is_floating_point if isinstance(value, Tensor) else value.dtype.kind == "f"
    if floating or any(word in lowered for word in ("image", "img", "scan", "volume")):
        return "intensity"
    return "label_map"
