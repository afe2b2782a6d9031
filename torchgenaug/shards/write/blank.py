"""An uncompressed shard without its samples: the bytes that HDF5 writes around them, and where they begin.

HDF5 lays the file out where a few KiB are sure to be free, if possible not on the disk that the render may fill: a file
that HDF5 cannot close may take the interpreter down at its exit.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from torchgenaug.shards.format import Manifest
from torchgenaug.shards.structure import ALIGNMENT, create_data_sets

_FRAME_BYTES = 1 << 16  # more than HDF5 writes around the data sets of a shard


@dataclass(frozen=True, slots=True)
class Blank:
    """An uncompressed shard without its samples.

    Attributes:
        size: bytes of the file.
        offsets: where each data set begins.
        pieces: (position, bytes) of what is not samples.
    """

    size: int
    offsets: dict[str, int]
    pieces: tuple[tuple[int, bytes], ...]


def blank_shard(manifest: Manifest, count: int, folder: Path) -> Blank:
    """The blank of `count` samples.

    Args:
        manifest: of the render; not compressed.
        count: how many samples the shard will hold.
        folder: where the shard will lie; the last place where HDF5 may try.

    Raises:
        OSError: the process may not have files as large, or no disk has room for a few KiB.
    """
    import h5py

    expected = count * manifest.row_bytes() + _FRAME_BYTES
    if expected > (most := _largest_file()):
        raise OSError(errno.EFBIG, f"a shard needs a file of {expected:,} bytes, and the limit is {most:,}")
    with tempfile.NamedTemporaryFile(prefix="torchgenaug-", dir=_place(folder)) as scratch:
        options = {"libver": "latest", "alignment_threshold": 1, "alignment_interval": ALIGNMENT}
        file = h5py.File(scratch.name, "w", locking=False, **options)
        try:
            create_data_sets(file, manifest, count)
            places = sorted((dataset.id.get_offset(), dataset.nbytes, name) for name, dataset in file.items())
        finally:
            file.close()
        descriptor, position, pieces = scratch.fileno(), 0, []
        size = os.fstat(descriptor).st_size
        for start, length, _ in [*places, (size, 0, "")]:
            pieces.append((position, os.pread(descriptor, start - position, position)))
            position = start + length
    return Blank(size, {name: start for start, _, name in places}, tuple(piece for piece in pieces if piece[1]))


def _place(folder: Path) -> Path:
    """The first folder with room: shared memory, the system's temporary folder, or `folder`."""
    lacking: OSError | None = None
    for place in (Path("/dev/shm"), Path(tempfile.gettempdir()), folder):  # noqa: S108 (a file of a random name)
        try:
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(bytes(_FRAME_BYTES))
                file.flush()
            return place
        except OSError as error:
            lacking = error
    raise lacking or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))


def _largest_file() -> float:
    """How many bytes a file of this process may have (``ulimit -f``)."""
    with contextlib.suppress(ImportError):  # not a POSIX system
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        return float("inf") if limit == resource.RLIM_INFINITY else limit
    return float("inf")
