"""`ShardSource`: rendered samples, mapped from disk and checked as they are read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.local_paths import folder_of
from torchgenaug.shards.folder import read_manifest, shard_digests, some_ranges
from torchgenaug.shards.format import MANIFEST_NAME, MAX_SAMPLE_BYTES, Manifest
from torchgenaug.shards.read.content import on_network
from torchgenaug.shards.read.copying import copy_rows, marks_of
from torchgenaug.shards.read.layout import corrupt
from torchgenaug.shards.read.open_shards import OpenShards
from torchgenaug.shards.read.opened import OpenShard
from torchgenaug.sources.dataset import SourceDataset
from torchgenaug.sources.positions import FEW, check_scalar_field, checked_positions
from torchgenaug.types import Batch, FieldSpec

_WORTH_A_LOOK = 3 << 16
"""Bytes per shard of a read from which on it pays to ask the system whether the file is as it was.

The question takes 2 µs, twice that between other work, and xxh3 0.5 µs for 16 KiB: fewer bytes are compared each time.
"""

Verify = Literal["sample", "read", "hash", "off"]


class ShardSource(SourceDataset):
    """The samples of a shard folder, in the order of their ids: a `torch.utils.data.Dataset` of dicts of tensors.

    Training on synthetic samples alone is ``DataLoader(ShardSource("shards"), batch_size=64, num_workers=2)``;
    `torchgenaug.SyntheticMixDataset` mixes them with real ones (it is a `torchgenaug.contracts.SyntheticSource`).

    Reading maps the files: no copy of the set in memory, pages shared by all workers, nothing locked and nothing
    written. A mapped file must not be cut or overwritten in place while it is read: the system ends the process with
    SIGBUS then, which Python cannot catch. Where others may do that, ``mmap=False`` reads each sample with a system
    call instead, and a file that was cut is a `ShardCorruptError`; network file systems are read like that anyway.
    Opened lazily in each process, so it may be pickled, forked and spawned; the size of the pickle is 32
    bytes per shard.

    A sample that was compared with its checksum is taken as good (``verify="sample"``) while the file's inode, size and
    times of modification and of change stay as they were, which is looked up in each read. So a damaged file is found
    when its samples are first read, and one that is written to later at the next read. What another process stores
    through a shared memory map, or memory and disk lose by themselves after that first read, only ``verify="read"``
    finds, at the price of hashing each sample each time. Files that are not mapped are treated like that anyway.

    Args:
        path: a folder that `torchgenaug.shards.render_shards` finished (or its ``manifest.json``), or the URL of one
            (``"s3://…"``), which `torchgenaug.shards.open_remote` fetches into a local cache first.
        verify: ``"sample"`` compares the checksum of every sample when a process first reads it, and again once its
            file was written to (see below); ``"read"`` each time that it is read; ``"hash"`` compares the sha256 of
            each file when a process first opens it, before HDF5 does (for folders from elsewhere), and again once it
            was written to, which is looked up after each read; ``"off"`` does nothing of this. Every file's structure
            is checked in any case. Each file is opened once: what was checked is what is read.
        max_sample_bytes: refuse a folder whose samples take more memory than this, stored and decoded together. A few
            bytes of a sparse or compressed file can claim to be a sample of any size.
        mmap: True maps the files, False reads samples with system calls (slower), None maps them
            unless the folder lies on a network file system.

    Raises:
        ConfigurationError: an unknown `verify`, or samples larger than `max_sample_bytes`.
        ShardNotFoundError: there is no shard folder.
        ShardIncompleteError: shards are missing; their ids and the way to make them are named.
        ShardVersionError: written by a newer version.
        ShardCorruptError: the manifest is damaged. Damaged shards raise it when they are read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        verify: Verify = "sample",
        max_sample_bytes: int = MAX_SAMPLE_BYTES,
        mmap: bool | None = None,
    ) -> None:
        if mmap not in (True, False, None):
            raise ConfigurationError(f"`mmap` must be True, False or None, got {mmap!r}.")
        if verify not in get_args(Verify):
            raise ConfigurationError(f"`verify` must be one of {get_args(Verify)}, got {verify!r}.")
        self._hashed = verify == "hash"
        if isinstance(path, str) and "://" in path:
            from torchgenaug.shards.remote import fetch_remote

            path, self._hashed = fetch_remote(path), True
        self.path, self.verify = folder_of(path, (MANIFEST_NAME,)), verify
        self.manifest: Manifest = read_manifest(self.path)
        self.manifest.check_sample_bytes(max_sample_bytes, self.path)
        self.mmap = not on_network(self.path) if mmap is None else mmap
        self._digests = shard_digests(self.path, self.manifest)
        self._open: OpenShards | None = None

    @cached_property
    def _row_bytes(self) -> int:
        """Stored bytes of a sample."""
        return sum(field.row_bytes for field in self.manifest.fields.values())

    @cached_property
    def fields(self) -> Mapping[str, FieldSpec]:
        """What every sample holds."""
        return {name: field.spec for name, field in self.manifest.fields.items()}

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the sequence that was rendered."""
        return self.manifest.sequence

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        """What the synthesizer was trained on, as the manifest has it; None where unknown."""
        record = self.manifest.trained_on
        return record if isinstance(record, Mapping) else None

    def __len__(self) -> int:
        return self.manifest.count

    def read(self, positions: npt.NDArray[np.int64]) -> Batch:
        """Samples at `positions`, stacked in that order: field → (len(positions), *shape), newly allocated.

        Args:
            positions: (n,) integers in ``range(len(self))``, repeats allowed.

        Raises:
            SampleIndexError: a position outside the source.
            ShardCorruptError: a sample or a file is not what was rendered.
        """
        ids = self._checked(positions)
        out = {name: torch.empty((len(ids), *spec.shape), dtype=spec.dtype) for name, spec in self.fields.items()}
        self._read(ids, out)
        return out

    def read_into(self, positions: npt.NDArray[np.int64], out: Batch) -> None:
        """`read`, into tensors that are there.

        Args:
            positions: as for `read`.
            out: some or all of the fields: each (n, *spec.shape) of the spec's dtype, contiguous, on any device. An
                error leaves them in any state.

        Raises:
            SampleIndexError: a position outside the source.
            ShardCorruptError: as for `read`.
        """
        self._read(self._checked(positions), out)

    def _read(self, ids: npt.NDArray[np.int64], out: Batch) -> None:
        size, listed = self.manifest.shard_size, ids.tolist()
        if len(listed) <= FEW:
            shards, rows = [number // size for number in listed], [number % size for number in listed]
        else:
            shards, rows = (part.tolist() for part in np.divmod(ids, size))
        self._gather(shards, rows, listed, out)

    def ids(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which sample of the sequence each position holds: position k holds sample k."""
        return self._checked(positions).copy()

    def seeds(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """The seed that each position's sample was made from. Every file's own record is compared when it is opened."""
        return seeding.derive(self.manifest.seed, seeding.SAMPLE, self._checked(positions))

    def column(self, field: str) -> Tensor:
        """One scalar field of all samples: (len(self),) of the field's dtype. Reads no other field.

        Raises:
            ConfigurationError: not a field of single numbers.
            ShardCorruptError: a value is not what was rendered.
        """
        check_scalar_field(field, self.fields)
        stored = self.manifest.fields[field]
        parts = []
        for index in range(self.manifest.num_shards):
            ids = self.manifest.shard_range(index)
            size = len(ids)
            parts.append(torch.empty(size, dtype=stored.spec.dtype))
            self._gather([index] * size, range(size), ids, {field: parts[-1]})
        return torch.cat(parts)

    def _gather(self, indices: Sequence[int], rows: Sequence[int], ids: Sequence[int], out: Batch) -> None:
        """Puts sample ``rows[k]`` of shard ``indices[k]``, whose id is ``ids[k]``, into row k of `out`, for all k."""
        opened = self._shards()
        shards = opened.get(set(indices))
        self._copy(shards, indices, rows, ids, out)
        if self.verify == "hash":
            opened.confirm(shards)

    def _copy(
        self,
        shards: Mapping[int, OpenShard],
        indices: Sequence[int],
        rows: Sequence[int],
        ids: Sequence[int],
        out: Batch,
    ) -> None:
        fields, salts = self.manifest.fields, ids if self.verify in ("sample", "read") else None
        known = self._known(shards, ids)
        for column, (name, field) in enumerate(fields.items()):
            if name not in out:
                continue
            result = out[name]
            direct = field.exact and result.device.type == "cpu" and result.is_contiguous()
            stored = result.numpy() if direct else np.empty((len(ids), *field.spec.shape), field.dtype)
            if ids:
                done = len(known) == len(shards) and all(
                    marks is not None and shards[index].seen_all(column) for index, marks in known.items()
                )
                marks = marks_of(shards, column, known) if known and not done else None
                wrong = copy_rows(stored, shards, indices, rows, column, None if done else salts, marks)
                if wrong:
                    first = indices[wrong[0]]
                    shard = shards[first]
                    here = sorted({ids[k] for k in wrong if indices[k] == first})
                    reason = f"the checksum of field {name!r} is wrong for ids {some_ranges(here)}"
                    raise corrupt(shard.path, shard.ids, reason)
            if not direct:
                field.decode_into(stored, result)

    def _known(self, shards: Mapping[int, OpenShard], ids: Sequence[int]) -> dict[int, list[bytearray] | None]:
        """Shard index → which of its samples were compared before and need not be again."""
        read = len(ids) * self._row_bytes
        if self.verify != "sample" or read < _WORTH_A_LOOK * len(shards):
            return {}
        return {index: shard.seen.marks() for index, shard in shards.items() if shard.seen is not None}

    def _shards(self) -> OpenShards:
        opened = self._open
        if opened is None or opened.pid != os.getpid():
            # In a forked worker: the parent's HDF5 handles and lock are not ours to use.
            self._open = opened = OpenShards(
                self.path, self.manifest, self._digests, hashed=self._hashed, mapped=self.mmap
            )
        return opened

    def _checked(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return checked_positions(positions, len(self))

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("path", "verify", "mmap", "manifest", "_digests", "_hashed")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _open=None)

    def __repr__(self) -> str:
        return f"ShardSource({str(self.path)!r}, {len(self)} samples, verify={self.verify!r})"


def open_remote(
    url: str,
    *,
    cache: str | os.PathLike[str] | None = None,
    verify: Verify = "sample",
    storage_options: Mapping[str, Any] | None = None,
) -> ShardSource:
    """A shard folder that lies behind a URL, copied to this machine first.

    Each file's sha256 is compared with its name while it arrives and when a process first opens it, and it appears in
    the cache whole or not at all. The cache is private: folders that others may write are refused. Any number of
    processes may open the same URL at once: one fetches, the others wait and then find the files. What is there is not
    fetched again, also after an interruption. A folder that was rendered anew has a cache of its own.

    Args:
        url: such as ``"s3://bucket/shards"``, ``"hf://datasets/me/shards@<revision>"``, ``"memory://shards"``, or a
            local path. The protocol's package, s3fs for example, must be installed.
        cache: where folders are kept; default: ``$TORCHGENAUG_CACHE``, else ``~/.cache/torchgenaug``.
        verify: as in `torchgenaug.ShardSource`.
        storage_options: passed to the file system, such as credentials.

    Raises:
        ConfigurationError: an unknown protocol, or a cache that others may write.
        MissingExtraError: the protocol's package is not installed.
        ShardNotFoundError: there is no manifest at this URL.
        ShardIncompleteError: shards are missing there.
        ShardCorruptError: a file that arrives is not the one that its name states, or the manifest is damaged.
        ShardError: the cache's disk is too small.

    Example:
        >>> import fsspec, tempfile
        >>> from torchgenaug import SyntheticSequence, render_shards
        >>> from torchgenaug.testing import AnalyticSynthesizer
        >>> folder, cache = tempfile.mkdtemp(), tempfile.mkdtemp()
        >>> _ = render_shards(SyntheticSequence(AnalyticSynthesizer((8, 8))), folder, 10, progress=False)
        >>> fsspec.filesystem("memory").put(folder, "/shards", recursive=True)
        >>> len(open_remote("memory://shards", cache=cache))
        10
    """
    from torchgenaug.shards.remote import fetch_remote

    source = ShardSource(fetch_remote(url, cache=cache, storage_options=storage_options), verify=verify)
    source._hashed = True  # what lies in a cache is hashed when it is first opened, too
    return source
