"""``torchgenaug render --dry-run``: what a render will take."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from torchgenaug.cli.output import counted, num_bytes
from torchgenaug.progress import duration

if TYPE_CHECKING:
    from rich.console import Console

    from torchgenaug import SyntheticSequence


def state_cost(
    sequence: SyntheticSequence,
    count: int,
    batch_size: int,
    dtype: str | None,
    compression: str | None,
    console: Console,
) -> None:
    """Renders a batch into a folder of its own, and prints time and disk of `count` samples."""
    from torchgenaug import render_shards
    from torchgenaug.cli.preview import draw

    size = min(batch_size, count)
    folder = Path(tempfile.mkdtemp(prefix="torchgenaug-dry-run-"))
    began = time.perf_counter()
    sequence.batch(range(size))  # the first call is slower: memory, compilation
    source = render_shards(
        sequence,
        folder / "shards",
        size,
        batch_size=size,
        dtype=dtype,
        compression=compression,
        progress=False,
        ranks=(0, 1),
    )
    first = time.perf_counter() - began
    began = time.perf_counter()
    sequence.batch(range(size))
    per_sample = (time.perf_counter() - began) / size
    disk = sum(path.stat().st_size for path in (folder / "shards").glob("shard-*.h5")) / size * count
    picture = draw(source, folder / "preview.png", min(16, size))
    shutil.rmtree(folder / "shards")
    for name, spec in sequence.fields.items():
        console.print(f"  {name}: {spec}", markup=False)
    console.print(
        f"One batch of {size} took {first / 2:.1f} s. {'All ' * (count > 1)}{counted(count, 'sample')}: about "
        f"{duration(per_sample * count)} and {num_bytes(disk)}. Nothing was written to the output folder. Look at "
        f"{picture}.",
        soft_wrap=True,
    )
