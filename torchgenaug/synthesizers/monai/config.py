"""Reads the configuration of a MONAI bundle as plain data: references are followed, nothing is evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchgenaug.errors import SynthesizerLoadError
from torchgenaug.synthesizers.parts.model_files import read_file, read_json

_REFERENCE = re.compile(r"@([A-Za-z_]\w*)((?:(?:::|#)\w+)*)")
_MAX_YAML_BYTES = 64 << 10  # parsed in Python; configurations of the model zoo have at most 20 kB
_MAX_BRACKETS = 2000  # each nested one costs the parser a level of recursion
_PROGRAMS, _ENDINGS = ("inference", "infer"), (".json", ".yaml", ".yml")
_MAX_DEPTH, _MAX_VALUES = 20, 10_000


def read_config(path: Path) -> Mapping[str, Any]:
    """The content of a ``.json``, ``.yaml`` or ``.yml`` file.

    Raises:
        SynthesizerLoadError: no such file, too large, or something else than a table of definitions.
    """
    if path.suffix not in (".yaml", ".yml"):
        return read_json(path)
    if not path.exists():
        raise SynthesizerLoadError(f"`path` must hold {path.name}, got {path.parent} without it. Check the path.")
    text = read_file(path, _MAX_YAML_BYTES)
    if text.count(b"[") + text.count(b"{") > _MAX_BRACKETS:
        raise SynthesizerLoadError(f"{path} must have at most {_MAX_BRACKETS} brackets, got more. Nothing was loaded.")
    import yaml  # comes with huggingface_hub, which diffusers needs

    try:
        content = yaml.load(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise SynthesizerLoadError(
            f"{path} must be YAML of plain values, got {error!r:.300}. Fetch the bundle again."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SynthesizerLoadError(f"{path} must hold named definitions, got {str(content)[:40]!r}. Check `config`.")
    return content


def find_configuration(folder: Path, config: str | Sequence[str] | None) -> tuple[Path, Mapping[str, Any]]:
    """The configuration of a bundle and its content: that of several files, of which later ones count first.

    Args:
        folder: of the bundle.
        config: one path inside it, or several; None: the usual names.

    Raises:
        SynthesizerLoadError: as `read_config`, or a path that leads outside.
    """
    if config:
        paths = [inside(folder, name) for name in ([config] if isinstance(config, str) else config)]
    else:
        programs = [path for name in _PROGRAMS for path in _existing(folder, name)]
        common = _existing(folder, "common")
        paths = [*common[:1], *programs[:1]] or [inside(folder, f"configs/{_PROGRAMS[0]}{_ENDINGS[0]}")]
    content: dict[str, Any] = {}
    for path in paths:
        content |= read_config(path)
    return paths[-1], content


def _existing(folder: Path, name: str) -> list[Path]:
    return [path for ending in _ENDINGS if (path := inside(folder, f"configs/{name}{ending}")).exists()]


def inside(folder: Path, name: str) -> Path:
    """The path of a file of a bundle; `SynthesizerLoadError` where it leads outside."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise SynthesizerLoadError(f"Files of a bundle must be inside it, got {name!r}, which is not in {folder}.")
    return path


def expand(value: Any, content: Mapping[str, Any], place: str) -> Any:
    """`value` with its references to plain values replaced.

    Raises:
        SynthesizerLoadError: expressions and objects, which would have to be run; references that lead in a circle, or
            that multiply to more values than a definition has.
    """
    return _Expansion(content, place).plain(value, 0)


class _Expansion:
    """One value being expanded; a few references to references can stand for more values than fit into memory."""

    def __init__(self, content: Mapping[str, Any], place: str) -> None:
        self._content, self._place, self._left = content, place, _MAX_VALUES

    def plain(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            raise SynthesizerLoadError(
                f"{self._place} must refer to a plain value of at most {_MAX_VALUES:,} parts, got references that go "
                "round in a circle, or multiply. Nothing was built."
            )
        if isinstance(value, list):
            return [self.plain(item, depth + 1) for item in value]
        if isinstance(value, dict):
            if "_target_" in value:
                raise self._refused(value)
            return {key: self.plain(item, depth + 1) for key, item in value.items()}
        if not isinstance(value, str) or not value.startswith(("$", "@", "%")):
            return value
        return self.plain(self._target(value), depth + 1)

    def _target(self, value: str) -> Any:
        reference = _REFERENCE.fullmatch(value)
        if reference is None or reference[1] not in self._content:
            raise self._refused(value)
        target = self._content[reference[1]]
        for key in re.split(r"::|#", reference[2])[1:]:
            try:
                target = target[int(key)] if isinstance(target, list) else target[key]
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise self._refused(value) from error
        return target

    def _refused(self, value: object) -> SynthesizerLoadError:
        shown = f"definition of {value.get('_target_')!s:.60}" if isinstance(value, dict) else f"{value!s:.80}"
        return SynthesizerLoadError(
            f"Definitions of networks must be plain values, got {shown!r} at {self._place}. Expressions and "
            "objects of a bundle are never evaluated. Put the value itself there, or build the network yourself and "
            "pass it to MonaiSynthesizer(unet, scheduler, …)."
        )
