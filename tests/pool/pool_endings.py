"""Run as a script: forks a training process for each line of its input, a plan in JSON, and lets it end as planned.

Everything is imported once, before the first fork: a run then takes a second or two, most of it work. Each child is
the main program of its own from there on: it ends as a script does, with all that the interpreter does at exit.
"""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import sys
import time

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer

BACKGROUNDS = {"thread": True, "process": "process", "synchronous": False}


class Slow(AnalyticSynthesizer):
    """Takes its time, as models do."""

    def synthesize(self, seeds, conditions=None):
        time.sleep(0.01)
        return super().synthesize(seeds, conditions)


class Samples(Dataset):
    def __init__(self, pool):
        self.pool = pool

    def __len__(self):
        return len(self.pool)

    def __getitems__(self, indices):
        return list(self.pool.read(np.array(indices))["image"])


def sequence():
    return SyntheticSequence(Slow((8, 8)))


def fails(*_):
    raise RuntimeError("the training loop gave up")


def leaves(*_):
    sys.exit(3)


def dies(*_):
    os._exit(4)


ENDINGS = {"exception": fails, "exit": leaves, "os._exit": dies}


def end_without(parent, _):
    """Torch's workers look for their parent only later: they would not miss one that is gone by then."""
    if os.getppid() != parent:
        os._exit(0)


def train(plan):
    """What a training process does; ends at the planned moment, or after its epochs."""
    if plan["ending"] in ENDINGS:
        signal.signal(signal.SIGALRM, ENDINGS[plan["ending"]])
        signal.setitimer(signal.ITIMER_REAL, max(plan["after_s"], 1e-3))
    options = {"refresh": 0.5, "batch_size": 4, "background": BACKGROUNDS[plan["background"]]}
    pool = SyntheticPool(sequence, 24, **options) if plan["factory"] else SyntheticPool(sequence(), 24, **options)
    workers = {"num_workers": plan["workers"], "persistent_workers": plan["workers"] > 0}
    loader = DataLoader(Samples(pool), 8, **workers, worker_init_fn=functools.partial(end_without, os.getpid()))
    for epoch in range(12 if plan["ending"] == "nothing" else 120):
        pool.set_epoch(epoch)
        for _ in loader:
            time.sleep(0.01)


def main():
    torch.set_num_threads(1)
    for line in sys.stdin:
        plan = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.stdin = io.StringIO()  # the plans are the parent's
            train(plan)
            return
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
