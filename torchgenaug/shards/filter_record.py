"""What a filter kept of a render, as an entry of its manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchgenaug.checksums import with_checksum
from torchgenaug.shards.folder import read_manifest
from torchgenaug.shards.format import MANIFEST_NAME, Manifest
from torchgenaug.shards.temporary import TemporaryFile


def record_filter(folder: Path, record: Mapping[str, Any]) -> Manifest:
    """Writes what a filter found into the manifest of a finished render, in place of an earlier filter's.

    The plan and the shards stay as they are, so a reader that has the folder open is not disturbed. Extending the
    render removes the entry.

    Args:
        folder: of the shards.
        record: JSON-ready: ``rule``, ``condition``, ``kept``, ``acceptance_rate``, ``scores``.

    Returns:
        The manifest that now lies there.

    Raises:
        ShardError: no manifest that can be read.
    """
    manifest = dataclasses.replace(read_manifest(folder), filter=with_checksum(record))
    temporary = TemporaryFile(folder)
    try:
        temporary.write(manifest.to_bytes())
        temporary.commit(MANIFEST_NAME)
    finally:
        temporary.discard()
    return manifest
