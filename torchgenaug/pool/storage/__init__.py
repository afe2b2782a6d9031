"""Where a pool keeps its samples: a ring of shared memory, and the window of the sequence that it holds."""
