"""How a pool generates its samples: in a thread, in a process of its own, or in the caller."""
