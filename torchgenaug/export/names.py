"""Names that become folders, columns and classes of an export."""

from __future__ import annotations

from collections.abc import Mapping

from torchgenaug.contracts import SyntheticSource, trained_on_of
from torchgenaug.errors import ConfigurationError
from torchgenaug.export.sample import folder_of, image_fields
from torchgenaug.shards.format import FIELD_NAME, RESERVED_NAMES
from torchgenaug.types import FieldSpec


def check_names(fields: Mapping[str, FieldSpec]) -> None:
    """Refuses fields that would share a file or a column, or would lie outside of the export.

    Raises:
        ConfigurationError: a name that shards do not allow either, or two fields in one folder.
    """
    for name in fields:
        if not FIELD_NAME.fullmatch(name) or name in RESERVED_NAMES:
            raise ConfigurationError(
                f"A field's name must be letters, digits, '_' or '-' and none of {RESERVED_NAMES}, got {name!r}. It "
                "names a folder or a column. Let the source call it otherwise."
            )
    folders: dict[str, str] = {}
    for name in image_fields(fields):
        folder = folder_of(name).casefold()  # some file systems do not tell capitals apart
        if folder in folders:
            raise ConfigurationError(
                f"Fields must be written into folders of their own, got {folders[folder]!r} and {name!r}, both in "
                f"{folder_of(name)!r}. One would replace the other. Let the source call one of them otherwise."
            )
        folders[folder] = name


def class_names_of(source: SyntheticSource) -> list[str]:
    """The name of each class, as the training data had it; a number where there is none. Empty: all are numbers."""
    record = trained_on_of(source)
    known = record.get("class_names", ()) if isinstance(record, dict) else ()
    names = [str(each) for each in known] if isinstance(known, list | tuple) else []
    spec = source.fields.get("label")
    if not names or len(set(names)) < len(names) or spec is None or spec.dtype.is_floating_point:
        return []
    last = -1 if spec.value_range is None else int(spec.value_range[1])
    return [*names, *(str(number) for number in range(len(names), last + 1))]
