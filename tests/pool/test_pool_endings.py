"""Training that ends at a random moment, in any way: it does end, and no process, shared memory or file is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("pool_endings.py")
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
ENDINGS = ["exception", "exit", "os._exit", "nothing", *SIGNALS]
# A process that starts another one has to import torch in it: on a busy machine that takes a while.
WORK_S = {"thread": 1.5, "synchronous": 1.5, "process": 8.0}
# One that was started just before notices that it is alone when it has done so.
HANG_S, LINGER_S = 120, 60


class Driver:
    """`pool_endings.py`, and how to find all that descends from it: by a mark in the environment."""

    def __init__(self, folder):
        self.folder, self.mark = folder / "temporary", uuid.uuid4().hex
        self.folder.mkdir()
        self.errors = folder / "errors.txt"
        self.known = set(os.listdir("/dev/shm"))
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, SCRIPT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
                env={
                    **os.environ,
                    "TMPDIR": str(self.folder),
                    "POOL_ENDINGS": self.mark,
                    "OMP_NUM_THREADS": "1",
                    "TORCHINDUCTOR_CACHE_DIR": str(folder / "of-torch"),
                },
            )

    def descendants(self):
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.process.pid:
                try:
                    if self.mark.encode() in (entry / "environ").read_bytes():
                        found.append((int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
                except OSError:
                    continue
        return found

    def answer(self, timeout_s):
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        return self.process.stdout.readline() if ready else None

    def run(self, plan):
        """What was wrong about this run: nothing, if all is well."""
        self.process.stdin.write(json.dumps(plan) + "\n")
        child = int(self.answer(HANG_S))
        if plan["ending"] in SIGNALS:
            time.sleep(plan["after_s"])
            with contextlib.suppress(ProcessLookupError):  # the work is done already
                os.kill(child, SIGNALS[plan["ending"]])
        status = self.answer(HANG_S)
        problems = [] if status is not None else [f"still runs after {HANG_S} s"]
        until = time.monotonic() + LINGER_S
        while (left := self.descendants()) and time.monotonic() < until and status is not None:
            time.sleep(0.02)
        for number, command in left:
            problems.append(f"process {number} is left: {command}")
            os.kill(number, signal.SIGKILL)
        if status is None:
            self.answer(HANG_S)
        owners = {name: re.match(r"torch_(\d+)_", name) for name in os.listdir("/dev/shm")}
        dead = {name for name, owner in owners.items() if owner and not Path(f"/proc/{owner[1]}").exists()}
        problems += [f"shared memory {name} is left" for name in dead - self.known]
        self.known |= dead
        for path in self.folder.iterdir():
            # Workers of any DataLoader leave these, empty, when an exception or a kill ends the training.
            if not (plan["workers"] and path.name.startswith("pymp-")):
                problems.append(f"file {path.name} is left")
            path.rename(self.folder.with_name(path.name))
        if plan["ending"] == "nothing" and status is not None and status.strip() != "0":
            problems.append(f"ended with status {status.strip()}")
        return problems

    def close(self):
        self.process.stdin.close()
        self.process.wait(240)
        self.process.stdout.close()
        return self.errors.read_text()[-10_000:]


def plans(count, seed):
    chance = random.Random(seed)
    for number in range(count):
        background = ["thread", "process", "synchronous"][number % 3]
        yield {
            "background": background,
            "ending": chance.choice(ENDINGS) if count > len(ENDINGS) * 3 else ENDINGS[(3 * number + 4) % len(ENDINGS)],
            "after_s": chance.uniform(0, WORK_S[background]),
            "workers": chance.choice([0, 0, 2]),
            "factory": background == "process" and chance.random() < 0.5,
        }


def campaign(count, folder, seed):
    driver = Driver(folder)
    problems = []
    try:
        for plan in plans(count, seed):
            problems += [f"{plan}: {problem}" for problem in driver.run(plan)]
    finally:
        errors = driver.close()
    return problems, errors


def test_three_endings(tmp_path):
    problems, errors = campaign(3, tmp_path, seed=1)
    assert not problems, "\n".join([*problems, errors])


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_hundred_endings(tmp_path):
    problems, errors = campaign(200, tmp_path, seed=0)
    assert not problems, "\n".join([*problems, errors])
