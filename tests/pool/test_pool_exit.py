"""However a process with a pool ends, it ends soon and leaves nothing behind."""

import os
import re
import signal
import subprocess
import time

import pytest

from tests import clean_interpreter

PREAMBLE = """
import os, signal, sys, time, threading
# A shell ignores Ctrl-C in what it runs in the background, and so would everything that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np, torch
torch.set_num_threads(1)
from torchgenaug.pool import SyntheticPool
from torchgenaug.pool.making import filler
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer

class Slow(AnalyticSynthesizer):
    batch_s = 0.05
    def synthesize(self, seeds, conditions=None):
        time.sleep(self.batch_s)
        return super().synthesize(seeds, conditions)

class Samples(torch.utils.data.Dataset):
    def __init__(self, pool):
        self.pool = pool
    def __len__(self):
        return len(self.pool)
    def __getitems__(self, indices):
        return list(self.pool.read(np.array(indices))["image"])

model = Slow((8, 8))
pool = SyntheticPool(SyntheticSequence(model), 4000, batch_size=4)
pool.read(np.array([0]))
"""

SPIN = """
def spin(work):
    def synthesize(seeds, conditions=None):
        while True:
            work()
    model.synthesize = synthesize
    time.sleep(0.5)

def stubborn():
    try:
        while True:
            torch.rand(64, 64) @ torch.rand(64, 64)
    except BaseException:
        pass

"""

WAYS = {
    "returns": ("", 0, ""),
    "dies": ("os._exit(6)", 6, ""),
    "in_a_worker": (
        "it = iter(torch.utils.data.DataLoader(Samples(pool), 4, num_workers=1)); next(it); raise ValueError('mine')",
        1,
        "ValueError: mine",
    ),
    "in_the_model": (SPIN + "spin(lambda: torch.rand(64, 64) @ torch.rand(64, 64))", 0, ""),
    "in_a_stubborn_model": (SPIN + "spin(stubborn); filler._EXIT_S = 0.5; sys.exit(3)", 3, ""),
    "in_one_long_call": (
        SPIN + "large = torch.rand(3000, 3000); spin(lambda: large @ large); filler._EXIT_S = 0.05",
        0,
        "",
    ),
    "hung": ("filler._EXIT_S = 0.2; model.batch_s = 3600; time.sleep(0.2)", 0, ""),
}


def leftovers():
    """Shared memory of torch whose process is gone; that of living processes is theirs."""
    names = {name: re.match(r"torch_(\d+)_", name) for name in os.listdir("/dev/shm")}
    return {name for name, match in names.items() if match and not os.path.exists(f"/proc/{match[1]}")}


@pytest.mark.parametrize("way", WAYS)
def test_ends_soon_with_its_own_status(way):
    code, status, message = WAYS[way]
    before = leftovers()
    # Longer than this, and it hangs: the pool has 50 s of work to do.
    done = clean_interpreter.run(["-c", PREAMBLE + code], timeout=40)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    if not message:
        assert done.stderr == ""
    assert leftovers() <= before


WAITS = {
    "for_an_epoch": "print('waiting', flush=True); pool.set_epoch(0)",
    "for_a_fork": """
model.batch_s = 1
time.sleep(0.2)
print('waiting', flush=True)
torch.utils.data.DataLoader(Samples(pool), 4, num_workers=1).__iter__()
time.sleep(60)
""",
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_while_waiting(wait):
    code = PREAMBLE + WAITS[wait]
    before = leftovers()
    with clean_interpreter.start(["-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=40)
        finally:
            process.kill()  # leaving the `with` waits for it: a process that does not heed Ctrl-C would stay for ever
    assert "KeyboardInterrupt" in errors
    assert errors.count("Traceback") == 1
    assert process.returncode in (-signal.SIGINT, 130)
    assert leftovers() <= before
