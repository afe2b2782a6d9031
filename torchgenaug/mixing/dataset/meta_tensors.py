"""MetaTensors as plain tensors where others of their batch are plain.

MONAI's `PersistentDataset` returns MetaTensors when it computes a sample, and plain tensors when it reads one from its
cache. A sample that was replaced in the first epoch is computed in a later one, next to others from the cache; and
MONAI's loader cannot collate both in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from torch import Tensor


def meta_names(template: Any) -> tuple[str, ...]:
    """Names of the MetaTensors in a sample that is a dict."""
    if not isinstance(template, Mapping):
        return ()
    return tuple(name for name, value in template.items() if type(value).__name__ == "MetaTensor")


def as_alike(samples: list[Any], codes: Sequence[int], names: Sequence[str]) -> list[Any]:
    """The samples of a batch, without metadata in the fields in which a real sample of the batch has none.

    Args:
        samples: of the batch.
        codes: ``~position`` of a synthetic sample, the position of a real one.
        names: fields to look at.
    """
    real = [sample for sample, code in zip(samples, codes, strict=True) if code >= 0 and isinstance(sample, Mapping)]
    plain = [name for name in names if any(type(sample.get(name)) is Tensor for sample in real)]
    return [_plain(sample, plain) for sample in samples] if plain else samples


def _plain(sample: Any, names: Sequence[str]) -> Any:
    attached = [name for name in names if hasattr(sample[name], "as_tensor")]
    if not attached:
        return sample
    changed = copy(sample)
    for name in attached:
        changed[name] = sample[name].as_tensor()
    return changed
