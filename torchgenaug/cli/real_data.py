"""Real data that a model was fitted on, read again as `fit` read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgenaug.bare_names import bare_name
from torchgenaug.cli.output import say
from torchgenaug.local_paths import local_path
from torchgenaug.pseudonyms import is_among

if TYPE_CHECKING:
    from torchgenaug.recipes.data.training_data import TrainingData

_TEXTS, _LONGEST, _MOST_STARS = ("images", "masks", "folders", "table"), 200, 12


def load_again(
    name: str, record: Any, size: int | Sequence[int] | None, given: Mapping[str, Any] | None = None
) -> TrainingData:
    """`load_data` with the options that a model's record says its training data were read with.

    Args:
        name: the data. Options in the record count only where it names data of this name.
        record: ``trained_on`` of the model or of its shards; anything else counts as none.
        size: as in `load_data`.
        given: options that the user states, which count before those in the record.

    Raises:
        ConfigurationError: as `load_data`.
    """
    from torchgenaug.recipes.data.load import load_data

    stated = dict(given or {})
    known = reading_of(record, name)
    if known.get("table") and not (local_path(name) / known["table"].partition(":")[0]).is_file():
        known["table"] = "none"  # a table elsewhere, whose place the record does not hold
    data = load_data(name, size=size, **{**known, **stated})
    kept = {key: value for key, value in known.items() if key not in stated}
    if kept:
        shown = " ".join(f"--{key}" if value is True else f"--{key} {_shown(value)}" for key, value in kept.items())
        say(f"{name} is read as the model's training data were: {shown}.")
    return data


def size_of_generated(source: Any, record: Any, name: str) -> Sequence[int] | None:
    """Spatial size of the images of a source whose record names these data: `fit` may have resized them.

    None where the record names other data, or none; or where the source does not state its fields.
    """
    if not _names(record, name):
        return None
    spec = (getattr(source, "fields", None) or {}).get("image")
    return None if spec is None else tuple(spec.shape[1:])


def reading_of(record: Any, name: str) -> dict[str, Any]:
    """The options of `load_data` in a record of training data; none where it names other data, or holds no such."""
    if not _names(record, name):
        return {}
    reading = record.get("reading")
    found: dict[str, Any] = {}
    for key, value in reading.items() if isinstance(reading, Mapping) else ():
        if key in _TEXTS and isinstance(value, str) and len(value) <= _LONGEST and value.count("*") <= _MOST_STARS:
            found[key] = value
        elif key == "volumes" and value is True:
            found[key] = True
        elif key == "spacing" and all(isinstance(each, (int, float)) for each in _listed(value)):
            found[key] = value
    return found


def _names(record: Any, name: str) -> bool:
    """Whether a record is of data of this name, or of its pseudonym."""
    data = record.get("data") if isinstance(record, Mapping) else None
    return isinstance(data, str) and is_among([bare_name(str(Path(name)))], {data})[0]


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else ",".join(f"{each:g}" for each in _listed(value))


__all__ = ["load_again", "reading_of", "size_of_generated"]
