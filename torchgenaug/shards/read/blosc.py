"""Blosc without HDF5: the decoder in ``hdf5plugin``'s own filter, called on the map of a file.

To read one chunk of 16 KiB through HDF5 takes some 15 µs, of which lz4 itself takes two. The library that holds the
filter exports the decoder, too; where it does not (another build of it, another system), HDF5 decodes.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from torchgenaug.shards.read.content import Content, FileBytes

Decoder: TypeAlias = Callable[[int, int, int, int], int]
"""(address of the chunk, address and bytes of the sample, threads) → bytes decoded, negative for an error."""


@functools.cache
def find_decoder() -> Decoder | None:
    """The function ``blosc_decompress_ctx``, which keeps no state; None where it is not to be had."""
    try:
        import hdf5plugin

        (path,) = Path(hdf5plugin.PLUGIN_PATH).glob("libh5blosc.*")
        decoder: Any = ctypes.CDLL(str(path)).blosc_decompress_ctx
    except (ImportError, AttributeError, OSError, ValueError):
        return None
    decoder.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    decoder.restype = ctypes.c_int
    return decoder  # type: ignore[no-any-return]


class PlainBloscRows:
    """A field with one Blosc chunk per sample, decoded without HDF5.

    The decoder believes the sizes in the header of a chunk: `chunks.check_blosc` must have compared
    them with what the chunk and the sample are.

    Args:
        content: the whole file.
        extents: (n, 3), the field's chunks.
        decoder: what `find_decoder` found.
    """

    __slots__ = ("_address", "_content", "_decoder", "_extents")

    def __init__(self, content: Content, extents: npt.NDArray[np.int64], decoder: Decoder) -> None:
        self._content, self._decoder = content, decoder
        self._address = 0 if isinstance(content, FileBytes) else np.frombuffer(content, np.uint8).ctypes.data
        self._extents = extents.data  # items of a memoryview are Python integers, at a third of the price of numpy's

    def decode(self, row: int, target: int, size: int) -> None:
        """Decodes one sample into the `size` bytes at the address `target`; ValueError if it is not of that size."""
        offset = self._extents[row, 0]
        if self._address:
            source = self._address + offset
        else:
            chunk = bytes(self._content[offset : offset + self._extents[row, 1]])
            # Read anew, so it may be another than the one whose header was checked.
            stated = int.from_bytes(chunk[4:8], "little"), int.from_bytes(chunk[12:16], "little")
            if not self._extents[row, 2] and stated != (size, len(chunk)):
                raise ValueError("its chunk was changed since the file was opened")
            source = ctypes.cast(ctypes.c_char_p(chunk), ctypes.c_void_p).value or 0
        if self._extents[row, 2]:  # Blosc was left out: it would not have made the sample smaller
            ctypes.memmove(target, source, size)
        elif self._decoder(source, target, size, 1) != size:
            raise ValueError("its chunk is not what Blosc wrote")
