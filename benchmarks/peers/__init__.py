"""Other ways to store and read samples, each in its library's own way. They install through the extra ``bench``."""

from __future__ import annotations

from benchmarks.peers import arrays, memory, ours, records, streams
from benchmarks.peers.contract import Peer

# The last ones start threads, of which a process that forks for its loader should not have any.
PEERS: tuple[Peer, ...] = (*memory.PEERS, *ours.PEERS, *arrays.PEERS, *streams.PEERS, *records.PEERS)
BASELINE = memory.BASELINE

__all__ = ["BASELINE", "PEERS", "Peer"]
