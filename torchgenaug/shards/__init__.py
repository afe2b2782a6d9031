"""Shards: synthetic samples on disk, in HDF5 files that any h5py user can read (format 1, specified in the README).

``format`` (the manifest) · ``storage`` (how one field is stored) · ``folder`` (names, journal, atomic files) ·
``writer`` and ``background`` (one shard, and the thread that writes it) · ``render`` · ``layout``, ``chunks``,
``blosc``, ``frame`` and ``opened`` (checks and maps one shard) · ``reader`` · ``verify`` · ``combined`` and
``selected`` (folders as one; classes kept and balanced) · ``remote`` (folders behind a URL). Nothing outside imports
h5py, and h5py is loaded when the first shard is written or opened.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "CombinedSource": "combined",
    "Manifest": "format",
    "SelectedSource": "selected",
    "ShardReport": "verify",
    "ShardSource": "reader",
    "balance_classes": "selected",
    "keep_classes": "selected",
    "open_remote": "remote",
    "render_shards": "render",
    "verify_shards": "verify",
}

__all__ = [
    "CombinedSource",
    "Manifest",
    "SelectedSource",
    "ShardReport",
    "ShardSource",
    "balance_classes",
    "keep_classes",
    "open_remote",
    "render_shards",
    "verify_shards",
]

if TYPE_CHECKING:
    from torchgenaug.shards.combined import CombinedSource
    from torchgenaug.shards.format import Manifest
    from torchgenaug.shards.reader import ShardSource
    from torchgenaug.shards.remote import open_remote
    from torchgenaug.shards.render import render_shards
    from torchgenaug.shards.selected import SelectedSource, balance_classes, keep_classes
    from torchgenaug.shards.verify import ShardReport, verify_shards


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'torchgenaug.shards' has no attribute {name!r}")
    return getattr(importlib.import_module(f"torchgenaug.shards.{home}"), name)


def __dir__() -> list[str]:
    return [*__all__]
