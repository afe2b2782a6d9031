from __future__ import annotations

import hashlib
from pathlib import Path

from torchgenaug import ClassLabels, SyntheticSequence, render_shards
from torchgenaug.testing import AnalyticSynthesizer


def small_sequence(seed: int = 5) -> SyntheticSequence:
    return SyntheticSequence(AnalyticSynthesizer((8, 8), num_classes=3), ClassLabels(3), seed=seed)


def render(path: Path, count: int = 22, sequence: SyntheticSequence | None = None, **options: object):
    """Six shards of four samples, the last one of two."""
    settings = {"batch_size": 2, "shard_size": 4, "progress": False} | options
    return render_shards(sequence or small_sequence(), path, count, **settings)


def contents(path: Path) -> dict[str, str]:
    """File name → sha256 of everything in a folder."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in Path(path).iterdir()}


def shard(path: Path, index: int) -> Path:
    (file,) = Path(path).glob(f"shard-{index:05d}.*.h5")
    return file
