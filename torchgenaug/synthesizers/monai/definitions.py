"""`find_definition`: the one definition of a kind of network or scheduler in a bundle's configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torchgenaug.errors import SynthesizerLoadError
from torchgenaug.synthesizers.monai.config import expand

# Keys that serve the bundle's own parser, or training only.
_IGNORED = ("_target_", "_requires_", "_disabled_", "_desc_", "_mode_", "use_checkpoint", "use_checkpointing")
# The first networks of this kind came in a package of their own, where this argument had another name.
_RENAMED = {"num_channels": "channels"}
_MAX_DEPTH, _MAX_TABLES = 4, 1000


def find_definition(
    content: Mapping[str, Any], allowed: tuple[str, ...], package: str, place: Path
) -> tuple[str, dict[str, Any]] | None:
    """(class name, arguments) of the one definition whose class is in `allowed`, also in tables of definitions.

    Of several schedulers the one counts that an inferer names.

    Raises:
        SynthesizerLoadError: several definitions, a class of another package, or arguments that are no plain values.
    """
    homes = re.compile(rf"((monai|generative)\.networks\.{package}\.(\w+\.)?)?({'|'.join(allowed)})")
    found = []
    for key, value in _definitions(content):
        target = value.get("_target_")
        if isinstance(target, str) and target.rpartition(".")[2] in allowed and value.get("_disabled_") is not True:
            if not homes.fullmatch(target):
                raise SynthesizerLoadError(
                    f"`_target_` must be a class of monai.networks.{package}, got {target!r} at {place}, {key!r}. Code "
                    "that comes with a model is never run. Build the networks yourself and pass them to "
                    "MonaiSynthesizer(unet, scheduler, …)."
                )
            found.append((key, target.rpartition(".")[2], value))
    if len(found) > 1:
        used = {str(value.get("scheduler")) for _, value in _definitions(content)} if package == "schedulers" else set()
        named = [each for each in found if f"@{each[0]}" in used]
        if len(named) != 1:
            raise SynthesizerLoadError(
                f"{place} must define one of {', '.join(allowed)}, got {[key for key, _, _ in found]}. Build the "
                "networks yourself and pass them to MonaiSynthesizer(unet, scheduler, …)."
            )
        found = named
    if not found:
        return None
    key, name, value = found[0]
    arguments = {
        _RENAMED.get(argument, argument): expand(setting, content, f"{place}, {key!r}, {argument!r}")
        for argument, setting in value.items()
        if argument not in _IGNORED
    }
    return name, arguments


def _definitions(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every definition and its name, "networks::unet" inside of a table; what is inside of definitions is not seen."""
    waiting: list[tuple[str, Mapping[str, Any], int]] = [("", content, 0)]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_TABLES:
        prefix, table, depth = waiting.pop(0)
        if id(table) in seen:  # aliases of YAML can stand for more than could ever be walked
            continue
        seen.add(id(table))
        for key, value in table.items():
            if not isinstance(value, dict):
                continue
            if "_target_" in value:
                yield f"{prefix}{key}", value
            elif depth < _MAX_DEPTH:
                waiting.append((f"{prefix}{key}::", value, depth + 1))


__all__ = ["find_definition"]
