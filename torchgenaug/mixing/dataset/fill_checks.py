"""Checks of what `FillMissing` is given: names of fields, and indices of incomplete samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from torchgenaug.errors import ConfigurationError


def check_names(source: object, target: object, condition: object) -> None:
    """Raises `ConfigurationError` unless these are names of fields; `source` may be several, `target` None."""
    several = source if isinstance(source, Sequence) and not isinstance(source, str) else (source,)
    given = {"source": several, "target": () if target is None else (target,), "condition": (condition,)}
    for argument, names in given.items():
        wrong = [name for name in names if not isinstance(name, str) or not name]
        if wrong:
            raise ConfigurationError(
                f"`{argument}` must name a field of the samples by a text, got {wrong[0]!r}. Numbers are no names: a "
                "field that is not there would count as missing everywhere. Write for example source='t1', "
                "target='t2'; for tuples name the positions, fields=('t1', 't2'); split a stacked image into one field "
                "for each modality first."
            )


def checked_targets(source: str | tuple[str, ...], target: str | None, *, listed: bool) -> tuple[str, ...]:
    """The modalities that may be filled.

    Args:
        source: the modality to translate from, or several.
        target: the modality to fill; None: any of several.
        listed: whether the user named the samples that lack it.

    Raises:
        ConfigurationError: a target that is none of the modalities, or none where one is needed.
    """
    if target is not None:
        if not isinstance(source, str) and target not in source:
            raise ConfigurationError(f"`target` must be one of the modalities {list(source)}, got {target!r}.")
        return (target,)
    if isinstance(source, str):
        raise ConfigurationError("`target` must be the name of the modality to fill, got None with one source.")
    if listed:
        raise ConfigurationError(
            "`missing` must be left out without `target`, got indices. They do not say which modality is missing: "
            "let the data set return None for it."
        )
    return source


def checked_missing(missing: Sequence[int] | npt.NDArray[np.integer], count: int) -> npt.NDArray[np.int64]:
    """The indices in order, each once.

    Raises:
        ConfigurationError: no whole numbers in [0, count).
    """
    numbers = np.asarray(missing)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise ConfigurationError(
            f"`missing` must be indices, whole numbers in [0, {count}), got {numbers.dtype} values. Of a mask take "
            "np.flatnonzero(mask)."
        )
    found = np.unique(numbers.astype(np.int64))
    if len(found) and (found[0] < 0 or found[-1] >= count):
        raise ConfigurationError(f"`missing` must be in [0, {count}), got {found[0]} to {found[-1]}.")
    return found
