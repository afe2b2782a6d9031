"""``torchgenaug inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchgenaug.cli.options import AsJson

if TYPE_CHECKING:
    from torchgenaug.shards.format import Manifest


def inspect(
    path: Annotated[Path, typer.Argument(help="A shard folder, or a saved synthesizer.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Prints what a shard folder or a saved synthesizer holds, and where it came from; verify reads the samples, too.

    Examples:

        torchgenaug inspect shards

        torchgenaug inspect my_model --json
    """
    from rich.table import Table

    from torchgenaug.cli.output import counted, open_console, say
    from torchgenaug.cli.preview import class_names
    from torchgenaug.shards.folder import list_shards, read_manifest
    from torchgenaug.shards.verify import next_step

    if (path / "synthesizer.json").exists():
        from torchgenaug.cli.inspect_synthesizer import describe_synthesizer, synthesizer_facts

        facts = synthesizer_facts(path)
        if as_json:
            print(json.dumps(facts, indent=2))
        else:
            say(*describe_synthesizer(facts))
        return
    manifest, shards = read_manifest(path), list_shards(path)
    size = sum((path / name).stat().st_size for names in shards.values() for name in names)
    there = sum(1 for index in shards if index < manifest.num_shards)
    step = next_step(path, damaged=False, missing=there < manifest.num_shards)
    if as_json:
        print(json.dumps(_facts(path, manifest, there, size, step), indent=2))
        return
    table = Table("field", "kind", "shape", "dtype", "range", "stored as", "worst error")
    for name, stored in manifest.fields.items():
        spec = stored.spec
        limits = "" if spec.value_range is None else f"{spec.value_range[0]:g} to {spec.value_range[1]:g}"
        dtype = str(spec.dtype).removeprefix("torch.")
        error = "exact" if stored.max_error == 0 else f"{stored.max_error:.2g}"
        table.add_row(name, spec.kind, str(spec.shape), dtype, limits, stored.dtype, error)
    say(f"{path}: {counted(manifest.count, 'sample')}, {there} of {counted(manifest.num_shards, 'shard')} there, "
        f"{counted(size, 'byte')}")  # fmt: skip
    open_console().print(table)
    names = class_names(manifest.trained_on)
    rows = {
        "sequence": manifest.sequence,
        "synthesizer": manifest.synthesizer,
        "conditions": manifest.conditions or "none",
        "base seed": str(manifest.seed),
        "batch plan": f"{counted(manifest.batch_size, 'sample')} per call, {manifest.shard_size} per shard",
        "compression": manifest.compression or "none",
        "rendered on": f"{manifest.device}, {counted(manifest.num_threads, 'thread')}",
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items() if version),
        "classes": ", ".join(f"{number} {name}" for number, name in enumerate(names)),
        "trained on": "unknown" if manifest.trained_on is None else json.dumps(manifest.trained_on),
    }
    say(*(f"{name:>12}  {' '.join(value.splitlines())}" for name, value in rows.items() if value))
    if step:
        say(f"Incomplete: {step}")


def _facts(path: Path, manifest: Manifest, there: int, size: int, step: str) -> dict[str, Any]:
    """The manifest as it is in the file, with what the folder holds."""
    from torchgenaug.shards.format import MANIFEST_NAME

    return {
        "path": str(path),
        "complete": there == manifest.num_shards,
        "shards_there": there,
        "num_shards": manifest.num_shards,
        "bytes": size,
        "next_step": step or None,
        "manifest": json.loads((path / MANIFEST_NAME).read_text(encoding="utf-8")),
    }
