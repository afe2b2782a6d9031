"""Shards: synthetic samples on disk, in HDF5 files that any h5py user can read (format 1, specified in the README).

``format`` (the manifest) · ``storage`` (how one field is stored) · ``structure`` (what writer and reader agree on) ·
``folder`` (names, journal) · ``temporary`` (atomic files) · ``write/`` (one shard, read back before it gets its name,
and the thread that writes it) · ``render/`` · ``read/`` (checks and reads one file, opened once; `ShardSource`) ·
``inventory`` (what is missing or damaged) · ``verify`` · ``remote`` and ``cache`` (folders behind a URL). Nothing
outside imports h5py, and h5py is loaded when the first shard is written or opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchgenaug.lazy import lazy_exports

_HOMES = {
    "Manifest": "format",
    "ShardJob": "render.jobs",
    "ShardReport": "verify",
    "ShardSource": "read.reader",
    "announce_rank": "render.presence",
    "open_remote": "read.reader",
    "render_job": "render.jobs",
    "render_shards": "render.render",
    "shard_jobs": "render.jobs",
    "verify_shards": "verify",
}

__all__ = [
    "Manifest",
    "ShardJob",
    "ShardReport",
    "ShardSource",
    "announce_rank",
    "open_remote",
    "render_job",
    "render_shards",
    "shard_jobs",
    "verify_shards",
]

if TYPE_CHECKING:
    from torchgenaug.shards.format import Manifest
    from torchgenaug.shards.read.reader import ShardSource, open_remote
    from torchgenaug.shards.render.jobs import ShardJob, render_job, shard_jobs
    from torchgenaug.shards.render.presence import announce_rank
    from torchgenaug.shards.render.render import render_shards
    from torchgenaug.shards.verify import ShardReport, verify_shards

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
