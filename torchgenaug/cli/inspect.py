"""``torchgenaug inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    path: Annotated[Path, typer.Argument(help="A shard folder, or a saved synthesizer.", show_default=False)],
) -> None:
    """Prints what a shard folder or a saved synthesizer holds, and where it came from.

    Example:

        torchgenaug inspect shards
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from torchgenaug.cli.text import printable
    from torchgenaug.shards.folder import list_shards, read_manifest

    if (path / "synthesizer.json").exists():
        from torchgenaug.cli.inspect_synthesizer import describe_synthesizer

        for line in describe_synthesizer(path):
            Console().print(line, markup=False, highlight=False, soft_wrap=True)
        return
    manifest, shards = read_manifest(path), list_shards(path)
    size = sum((path / name).stat().st_size for names in shards.values() for name in names)
    console = Console()
    there = sum(1 for index in shards if index < manifest.num_shards)
    table = Table("field", "kind", "shape", "dtype", "range", "stored as", "worst error")
    for name, stored in manifest.fields.items():
        spec = stored.spec
        limits = "" if spec.value_range is None else f"{spec.value_range[0]:g} to {spec.value_range[1]:g}"
        dtype = str(spec.dtype).removeprefix("torch.")
        error = "exact" if stored.max_error == 0 else f"{stored.max_error:.2g}"
        table.add_row(name, spec.kind, str(spec.shape), dtype, limits, stored.dtype, error)
    console.print(f"{path}: {manifest.count} samples, {there} of {manifest.num_shards} shards there, {size:,} bytes")
    console.print(table)
    rows = {
        "sequence": manifest.sequence,
        "synthesizer": manifest.synthesizer,
        "conditions": manifest.conditions or "none",
        "base seed": str(manifest.seed),
        "batch plan": f"{manifest.batch_size} samples per call, {manifest.shard_size} per shard",
        "compression": manifest.compression or "none",
        "made on": f"{manifest.device}, {manifest.num_threads} thread(s)",
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items() if version),
        "trained on": "unknown" if manifest.trained_on is None else json.dumps(manifest.trained_on),
    }
    for name, value in rows.items():
        console.print(f"{name:>12}  {printable(value)}", markup=False, highlight=False, soft_wrap=True)
    if there < manifest.num_shards:
        console.print("Incomplete: run the same render again to make the rest.")
