"""Class labels of a data set, read once, for mixes that keep the class balance (`match`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ConfigurationError
from torchgenaug.progress import counted
from torchgenaug.samples.layout import Fields, SampleLayout, checked_fields, is_one_hot
from torchgenaug.samples.own_copy import OwnCopy
from torchgenaug.samples.random_state import random_state_restored


def read_labels(real: Any, fields: Fields | None, match: str | Mapping[str, Sequence[int]]) -> npt.NDArray[np.int64]:
    """The class of each real sample: as given, or read once, through a copy of the data set.

    Raises:
        ConfigurationError: not a field of the samples, or not whole numbers.
    """
    name = match if isinstance(match, str) else next(iter(match))
    names = checked_fields(fields)
    if not isinstance(match, str):
        if names is not None and name not in names:
            raise _unknown(name, names)
        return whole_labels(match[name], name)
    copy = OwnCopy(real)
    with random_state_restored():
        layout = SampleLayout.of(copy[0], fields)
        if name not in layout.names:
            raise _unknown(name, layout.names)
        every = counted(len(real), f"read {name!r} of", "real samples")
        return whole_labels((layout.split(copy[k])[name] for k in every), name)


def _unknown(name: str, names: Sequence[str]) -> ConfigurationError:
    return ConfigurationError(f"`match` must name a field of the samples {tuple(names)}, got {name!r}.")


def whole_labels(values: Iterable[Any], name: str) -> npt.NDArray[np.int64]:
    """Class labels as integers.

    Raises:
        ConfigurationError: something that is not a whole number.
    """
    raw = [_number(value) for value in values]
    for value in raw:
        if not isinstance(value, (int, float)) or value != int(value):
            raise ConfigurationError(
                f"`match` must name a field of class labels, whole numbers, got {value!r} in {name!r}. "
                "Map the classes to integers in the data set, or drop `match`."
            )
    return np.array(raw, np.int64)


def _number(value: Any) -> Any:
    if is_one_hot(value):
        return int(np.asarray(value).argmax())
    return value.item() if hasattr(value, "item") and np.asarray(value).size == 1 else value
