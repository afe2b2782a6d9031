"""Compressed samples: where each chunk lies, and decoding that never makes more bytes than a sample has.

The filters of HDF5 believe the compressed stream: deflate grows its buffer until the stream ends, and Blosc allocates
what the chunk's header says and reads as many bytes as it says. So deflate is undone here, within a bound, and the
headers of Blosc are compared with what a sample must be before HDF5 decodes them.
"""

from __future__ import annotations

import zlib
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from torchgenaug.shards.read.content import Content, FileBytes

Extents: TypeAlias = npt.NDArray[np.int64]
"""(n, 3) per chunk: offset in the file, bytes there, mask of the filters that were left out."""

_FILTERS = {"lz4": (32001,), "zstd": (32001,), "gzip": (2, 1)}  # Blosc; byte shuffle, then deflate
_CODECS = {"lz4": 1, "zstd": 5}  # in the options of the Blosc filter
_DEFLATE_LEFT_OUT = 2  # the bit of the second filter
_BLOSC_HEADER = 16  # bytes: versions, flags, item size; decoded, block and compressed bytes as uint32


def check_filters(properties: Any, compression: str | None, itemsize: int, row_bytes: int) -> None:
    """ValueError unless a data set's filters and their options are what the writer sets.

    Args:
        properties: the data set's creation properties.
        compression: of the manifest, None for a contiguous data set.
        itemsize: bytes of one number.
        row_bytes: bytes of one sample.
    """
    found = [properties.get_filter(k) for k in range(properties.get_nfilters())]
    ids = tuple(entry[0] for entry in found)
    if ids != _FILTERS.get(compression or "", ()):
        raise ValueError(f"has other filters than the manifest says: {ids}")
    values = [tuple(entry[2]) for entry in found]
    if compression == "gzip":
        wrong = values[0] != (itemsize,) or len(values[1]) != 1
    elif compression is not None:
        options = values[0]
        expected = (itemsize, row_bytes, _CODECS[compression])
        wrong = len(options) != 7 or (options[2], options[3], options[6]) != expected
    else:
        wrong = False
    if wrong:
        raise ValueError(f"has filters with other options than the manifest says: {values}")


def chunk_extents(dataset: Any, count: int, size: int) -> Extents:
    """Where the chunks of a data set lie, one per sample, in the order of the samples.

    Args:
        dataset: low-level h5py data set, one sample per chunk.
        count: how many samples it must have.
        size: bytes of the file.

    Raises:
        ValueError: a chunk is missing, there twice, or outside the file, or two share bytes.
    """
    found: list[tuple[int, int, int, int]] = []

    def note(chunk: Any) -> bool | None:
        row, *rest = chunk.chunk_offset
        found.append((row, chunk.byte_offset, chunk.size, chunk.filter_mask))
        return True if any(rest) or len(found) > count else None  # anything but None ends the iteration

    dataset.chunk_iter(note)
    rows = sorted(found)
    if [row[0] for row in rows] != list(range(count)):
        raise ValueError("does not hold one chunk per sample")
    if any(not 0 < offset < size or not 0 < length <= size - offset for _, offset, length, _ in rows):
        raise ValueError("has a chunk outside the file")
    extents = np.array(rows, np.int64).reshape(count, 4)[:, 1:]
    check_disjoint(extents[:, 0], extents[:, 1])
    return extents


def check_disjoint(offsets: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> None:
    """ValueError if two stretches of a file share bytes."""
    order = np.argsort(offsets, kind="stable")
    starts, ends = offsets[order], (offsets + sizes)[order]
    if (starts[1:] < ends[:-1]).any():
        raise ValueError("shares bytes of the file with other data")


def check_blosc(content: Content, extents: Extents, row_bytes: int) -> None:
    """ValueError unless the header of each Blosc chunk states the sizes that the chunk and the sample have.

    Args:
        content: the whole file.
        extents: its chunks.
        row_bytes: bytes of one sample.
    """
    offsets, sizes, masks = extents.T
    plain = masks == 1  # Blosc is left out where it would not make the sample smaller
    if not np.isin(masks, (0, 1)).all() or (sizes[plain] != row_bytes).any():
        raise ValueError("has a chunk of another size than a sample")
    offsets, sizes = offsets[~plain], sizes[~plain]
    if (sizes < _BLOSC_HEADER).any():
        raise ValueError("has a chunk that is too short")
    headers = _headers(content, offsets).view("<u4").astype(np.int64)
    decoded, block, compressed = headers[:, 1], headers[:, 2], headers[:, 3]
    if ((decoded != row_bytes) | (compressed != sizes) | (block < 1) | (block > row_bytes)).any():
        raise ValueError("has a chunk whose header states other sizes than it and its sample have")


def _headers(content: Content, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """(n, 16) bytes at the offsets."""
    if isinstance(content, FileBytes):
        joined = b"".join([content[offset : offset + _BLOSC_HEADER] for offset in offsets.tolist()])
        return np.frombuffer(joined, np.uint8).reshape(-1, _BLOSC_HEADER)
    found: npt.NDArray[np.uint8] = np.frombuffer(content, np.uint8)[offsets[:, None] + np.arange(_BLOSC_HEADER)]
    return found


class BloscRows:
    """A field with one Blosc chunk per sample, read through HDF5 and its filter."""

    __slots__ = ("_dataset", "_file_space", "_memory_space", "_rest")

    def __init__(self, dataset: Any) -> None:
        self._dataset, self._file_space = dataset, dataset.get_space()
        # Bare selections: h5py's own indexing costs several times what HDF5 does.
        self._memory_space, self._rest = self._file_space.copy(), dataset.shape[1:]
        self._memory_space.set_extent_simple((1, *self._rest))
        self._memory_space.select_all()

    def read(self, row: int, out: npt.NDArray[Any]) -> None:
        """Decodes one sample into `out`, of its shape and stored dtype."""
        selection = self._file_space.copy()  # of its own: other threads read other rows
        selection.select_hyperslab((row, *(0,) * len(self._rest)), (1, *self._rest))
        self._dataset.read(self._memory_space, selection, out)


class GzipRows:
    """A field with one shuffled and deflated chunk per sample, inflated without HDF5.

    Args:
        content: the whole file.
        extents: the field's chunks.
    """

    __slots__ = ("_content", "_extents")

    def __init__(self, content: Content, extents: Extents) -> None:
        self._content, self._extents = content, extents

    def read(self, row: int, out: npt.NDArray[Any]) -> None:
        """Decodes one sample into `out`, of its shape and stored dtype; ValueError if it is not of that size."""
        offset, length, mask = self._extents[row].tolist()
        content: memoryview | bytes = self._content[offset : offset + length]
        if mask not in (0, _DEFLATE_LEFT_OUT):
            raise ValueError(f"its chunk leaves out filters {mask:b}")
        if mask != _DEFLATE_LEFT_OUT:
            stream = zlib.decompressobj()
            try:
                content = stream.decompress(content, out.nbytes + 1)
            except zlib.error as error:
                raise ValueError(str(error)) from error
            if not stream.eof or stream.unused_data:
                raise ValueError("its chunk does not end where its sample does")
        if len(content) != out.nbytes:
            raise ValueError(f"its chunk holds {len(content)} bytes instead of {out.nbytes}")
        # Byte shuffle stores all first bytes of the numbers, then all second ones, …; assigned one by one they take a
        # quarter of the time of one transposed copy.
        shuffled = np.frombuffer(content, np.uint8).reshape(out.itemsize, -1)
        numbers = out.reshape(-1).view(np.uint8).reshape(-1, out.itemsize)
        for k, column in enumerate(shuffled):
            numbers[:, k] = column
