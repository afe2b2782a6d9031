"""Checks all samples of one open shard against their checksums."""

from __future__ import annotations

import numpy as np
import xxhash

from torchgenaug.shards.format import Manifest
from torchgenaug.shards.read.copying import copy_rows
from torchgenaug.shards.read.opened import OpenShard
from torchgenaug.shards.storage import StoredField

_BYTES = 16 << 20  # decoded at once, but one sample at least


def wrong_content(shard: OpenShard, manifest: Manifest, index: int) -> str | None:
    """Reads a whole shard, and says which sample is not what its checksum says; None if all are.

    Args:
        shard: open.
        manifest: of its folder.
        index: of the shard.

    Raises:
        ShardCorruptError: a compressed sample that cannot be decoded.
    """
    for column, (name, field) in enumerate(manifest.fields.items()):
        row = _first_wrong_row(shard, column, field, index)
        if row is not None:
            return f"the checksum of field {name!r} is wrong for id {shard.ids[row]}"
    return None


def _first_wrong_row(shard: OpenShard, column: int, field: StoredField, index: int) -> int | None:
    if shard.compressed[column] is None:
        digest, content, sums = xxhash.xxh3_64_intdigest, shard.maps[column], shard.sums[column :: len(shard.maps)]
        size = field.row_bytes
        for row, salt in enumerate(shard.ids):
            if digest(content[row * size : (row + 1) * size], salt) != sums[row]:
                return row
        return None
    portion = min(max(1, _BYTES // field.row_bytes), len(shard.ids))
    stored = np.empty((portion, *field.spec.shape), field.dtype)
    for start in range(0, len(shard.ids), portion):
        ids = shard.ids[start : start + portion]
        rows = range(start, start + len(ids))
        wrong = copy_rows(stored[: len(ids)], {index: shard}, [index] * len(ids), rows, column, ids)
        if wrong:
            return start + wrong[0]
    return None
