"""`SyntheticPool`: a moving window of a sequence, kept in shared memory and refreshed while training goes on.

- ``window``: which samples an epoch sees, which batches they come from, and where each batch lies in the ring
- ``memory``: shared memory that belongs to no folder, so that nothing can be left behind
- ``ring``: the samples, which of them are there, and how often each was served; seen by all processes
- ``supply``: where a batch comes from: a render that holds it, or the model
- ``process``, ``child``, ``staging``: the model in a process of its own
- ``filler``: asks for what is missing, in a thread or in the caller
- ``forks``: nothing is made while the process forks
- ``stats``: what was done so far
- ``ranks``, ``arguments``, ``fit``, ``assemble``: what a pool is built from
- ``synthetic_pool``: what the user sees
"""

from torchgenaug.pool.stats import PoolStats
from torchgenaug.pool.synthetic_pool import SyntheticPool

__all__ = ["PoolStats", "SyntheticPool"]
