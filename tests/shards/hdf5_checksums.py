"""Makes the checksums of HDF5's own metadata right again after bytes were changed, as an attacker would."""

from __future__ import annotations

import struct

_MASK = 0xFFFFFFFF


def lookup3(data: bytes) -> int:
    """Jenkins' hash as HDF5 uses it (H5_checksum_lookup3, initial value 0).

    References:
        Jenkins (2006). lookup3.c, hashlittle.
    """

    def rotate(x: int, k: int) -> int:
        return ((x << k) | (x >> (32 - k))) & _MASK

    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    if not data:
        return c
    *whole, last = (data[k : k + 12] for k in range(0, len(data), 12))
    for block in whole:
        x, y, z = struct.unpack("<III", block)
        a, b, c = (a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK
        for k in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & _MASK) ^ rotate(c, k)
            c = (c + b) & _MASK
            a, b, c = b, c, a
    x, y, z = struct.unpack("<III", last.ljust(12, b"\0"))
    a, b, c = (a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK
    for k in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - rotate(b, k)) & _MASK
        a, b, c = b, c, a
    return b  # seven turns leave c here


def _ends(content: bytes) -> list[tuple[int, int]]:
    """(start, end) of each structure that a checksum follows."""
    found = [(0, 44)] if content[:8] == b"\x89HDF\r\n\x1a\n" and content[8:9] in (b"\2", b"\3") else []
    place = content.find(b"OHDR")
    while 0 <= place < len(content) - 16:
        flags = content[place + 5]
        start = place + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        found.append((place, start + width + int.from_bytes(content[start : start + width], "little")))
        place = content.find(b"OHDR", place + 4)
    place = content.find(b"FAHD")
    while 0 <= place <= len(content) - 28:
        entry, (count, block) = content[place + 6], struct.unpack_from("<QQ", content, place + 8)
        found += [(place, place + 24), (block, block + 14 + entry * count)]
        place = content.find(b"FAHD", place + 4)
    return [(start, end) for start, end in found if start < end <= len(content) - 4]


def rechecked(content: bytes) -> bytes:
    """`content` with right checksums in its superblock, object headers and fixed arrays."""
    out = bytearray(content)
    for start, end in _ends(content):
        out[end : end + 4] = struct.pack("<I", lookup3(bytes(out[start:end])))
    return bytes(out)


def metadata(content: bytes) -> list[tuple[int, int]]:
    """(start, end) of the structures that `rechecked` knows: where an attack is worth while."""
    return _ends(content)
