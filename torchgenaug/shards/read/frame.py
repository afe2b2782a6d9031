"""What surrounds the data of a shard: recognised in the next one, it need not be taken apart again.

To check a shard's structure through HDF5 takes about a millisecond, and a folder may hold thousands. But the writer is
deterministic: shards of one length differ in their data alone. So when one was checked, another one of the same size
that equals it byte by byte outside of the data is known to hold its data sets at the same places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torchgenaug.shards.read.content import Content

_MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Frame:
    """All bytes of a checked file but its data.

    Attributes:
        size: bytes of the file.
        offsets: where each data set begins.
        gaps: start and end of each stretch without data.
        content: those stretches, one after the other.
    """

    size: int
    offsets: dict[str, int]
    gaps: tuple[tuple[int, int], ...]
    content: bytes

    @classmethod
    def of(cls, content: Content, offsets: dict[str, int], lengths: Mapping[str, int]) -> Frame | None:
        """The frame of a file whose data sets were found disjoint; None if it is too large to be one of ours.

        Args:
            content: the whole file.
            offsets: where each data set begins.
            lengths: bytes of each data set.
        """
        ends, gaps = 0, []
        for name in sorted(offsets, key=lambda name: offsets[name]):
            gaps.append((ends, offsets[name]))
            ends = offsets[name] + lengths[name]
        gaps.append((ends, len(content)))
        if sum(stop - start for start, stop in gaps) > _MOST_BYTES:
            return None
        return cls(len(content), offsets, tuple(gaps), _bytes_of(content, gaps))

    def fits(self, content: Content) -> bool:
        """Whether a file has the same size, and the same bytes where there are no data."""
        return len(content) == self.size and _bytes_of(content, self.gaps) == self.content


def _bytes_of(content: Content, gaps: tuple[tuple[int, int], ...] | list[tuple[int, int]]) -> bytes:
    return b"".join([content[start:stop] for start, stop in gaps])
