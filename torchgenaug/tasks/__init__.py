"""One example per task that goes all the way: ``torchgenaug demo --task classification``, and its likes.

Each takes real data, trains a generative model on the few real training samples alone, renders shards and fills a pool,
trains a small network on every mix, scores it on real test data that neither the network nor the generator has seen,
and prints gains and losses against real data only, real data repeated, and real data with TorchIO.
"""

from torchgenaug.tasks.effort import Effort, run_task, tasks

__all__ = ["Effort", "run_task", "tasks"]
