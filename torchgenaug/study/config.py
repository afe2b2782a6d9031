"""`load_study`: a study from a TOML file, with built-in data, task and generators, or from a function of the user."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.import_name import call_by_name
from torchgenaug.study.cross_modality import CrossModality
from torchgenaug.study.entries import read_entries
from torchgenaug.study.examples import EXAMPLES as EXAMPLES
from torchgenaug.study.few_labels import FewLabels
from torchgenaug.study.folder_study import FolderStudy
from torchgenaug.study.generators import Generator
from torchgenaug.study.lesions import Lesions
from torchgenaug.study.missing_modality import MissingModality
from torchgenaug.study.sections import ArmsSection, DataSection, TaskSection
from torchgenaug.study.study import Study

_BUILT_IN: Mapping[str, Any] = {
    "cross_modality": CrossModality,
    "few_labels": FewLabels,
    "lesions": Lesions,
    "missing_modality": MissingModality,
}


def load_study(path: str | Path, out: str | Path) -> Study:
    """The study that a TOML file describes; those of `torchgenaug.study.examples` are complete.

    Args:
        path: of the file. Folders that it names are relative to it.
        out: folder of the results; generators that the study trains are kept there.

    Raises:
        ConfigurationError: no such file, not TOML, or entries that a study does not have.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"`FILE` must be a TOML file, got {str(path)!r}, which is not there. Print one to start from: "
            "torchgenaug study --example digits"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"`FILE` must be a TOML file, got {str(path)!r}: {error}. Compare it with: torchgenaug study --example "
            "digits"
        ) from error
    if "study" in document:
        _known(document, ("study",), "a file with `study`")
        study = call_by_name(document["study"], "`study`")
        if not isinstance(study, Study):
            raise ConfigurationError(
                f"`study` must name a function that returns a torchgenaug.study.Study, got {type(study).__name__}."
            )
        return study
    for section, kind in _BUILT_IN.items():
        if section in document:
            _known(document, ("name", section), f"a file with [{section}]")
            built: Study = _section(document, section, kind).build(Path(out), str(document.get("name", path.stem)))
            return built
    own = [each.name for each in fields(FolderStudy)]
    sections = {"data": DataSection, "task": TaskSection, "synthetic": Generator, "arms": ArmsSection}
    _known(document, own, "the file")
    plain = {key: value for key, value in document.items() if key not in sections}
    values: dict[str, Any] = read_entries(plain, FolderStudy, "the file")
    values |= {name: _section(document, name, kind) for name, kind in sections.items()}
    return FolderStudy(**{"name": path.stem, **values}).build(Path(out), path.parent)


def _section(document: Mapping[str, Any], name: str, kind: Any) -> Any:
    values = document.get(name, {})
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"`{name}` must be a table, got {values!r}. Write it as [{name}].")
    _known(values, [each.name for each in fields(kind)], f"[{name}]")
    return kind(**read_entries(values, kind, f"[{name}]"))


def _known(values: Mapping[str, Any], known: Any, place: str) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigurationError(
            f"`FILE` must hold nothing but what a study knows, got {unknown} in {place}. It would have no effect. "
            f"Known there: {', '.join(known)}."
        )
