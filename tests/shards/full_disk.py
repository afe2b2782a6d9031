"""Renders on disks that are full, for good or for moments, and what they leave.

As a script: ``python tests/shards/full_disk.py tmpfs 50`` renders 50 times on a small disk in memory; ``ext4`` on an
image of a disk, ``quota`` on one of btrfs whose subvolume has a limit (all three need root, the last also
btrfs-progs), ``limit`` under ``ulimit -f``. It prints how many renders failed, and exits with
status 1 if one ended by a signal, returned success without all samples, committed a shard that is not what was
rendered, or could not be resumed to the same bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# The memory management of MKL may loop for ever in a forked child (seen in mkl_serv_allocate, with torch 2.13).
os.environ.setdefault("MKL_DISABLE_FAST_MM", "1")

import torch
from shards_helpers import contents

from torchgenaug import FieldSpec, FunctionSynthesizer, SyntheticSequence, render_shards, seeding, verify_shards
from torchgenaug.errors import ShardError
from torchgenaug.shards.render import render as render_module

COUNT, SHARD, BATCH = 384, 128, 16  # 6 MiB in three shards: more than HDF5 keeps back in memory
_COMPRESSIONS, _DTYPES = (None, "lz4", "zstd", "gzip"), (None, "float16", "uint16", "uint8")
# In such an order that any four in a row hold each of both.
STORAGES = [(_COMPRESSIONS[k], _DTYPES[(k + shift) % 4]) for shift in range(4) for k in range(4)]
DISK = 24 << 20


def images(seeds, conditions):
    """Smooth images, which compress as real ones do."""
    coarse = seeding.normal(seeds, (1, 8, 8))
    smooth = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")
    return {"image": smooth.div_(16).add_(0.5).clamp_(0, 1)}


def render(folder, storage):
    field = {"image": FieldSpec((1, 64, 64), value_range=(0.0, 1.0))}
    sequence = SyntheticSequence(FunctionSynthesizer(images, field, fingerprint="full disk"), seed=3)
    compression, dtype = storage
    options = {"batch_size": BATCH, "shard_size": SHARD, "progress": False, "ranks": (0, 1)}
    return render_shards(sequence, folder, COUNT, compression=compression, dtype=dtype, **options)


class Disk:
    """A disk of 24 MiB whose free space can be taken away."""

    def __init__(self, place):
        self.place, self.folder, self._ballast = place, place / "shards", place / "ballast"

    def fill(self, leave):
        """Takes all space but `leave` bytes."""
        descriptor = os.open(self._ballast, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            for step in (1 << 20, 1 << 16, 1 << 12):
                while shutil.disk_usage(self.place).free > leave + step:
                    try:
                        os.posix_fallocate(descriptor, size, step)
                    except OSError:
                        break
                    size += step
        finally:
            os.close(descriptor)

    def empty(self):
        self._ballast.unlink(missing_ok=True)

    def enter_child(self, leave):
        """What the rendering process does before it begins."""


class Quota(Disk):
    """A folder that may hold so much and no more, on a disk with plenty of space."""

    def fill(self, leave):
        used = self._qgroup("show", "--raw", "-f", "--sync", str(self.place)).splitlines()[-1].split()[1]
        self._limit(str(int(used) + leave))

    def empty(self):
        self._limit("none")

    def _limit(self, size):
        # By its number, from outside: within the subvolume a change of the limit itself needs space.
        number = self._qgroup("show", "--raw", "-f", str(self.place)).splitlines()[-1].split()[0]
        self._qgroup("limit", size, number, str(self.place.parent))

    @staticmethod
    def _qgroup(*arguments):
        command = ["btrfs", "qgroup", *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout


class LimitedFiles(Disk):
    """A process that may not have large files."""

    def fill(self, leave):
        pass

    def enter_child(self, leave):
        resource.setrlimit(resource.RLIMIT_FSIZE, (leave, leave))


@contextlib.contextmanager
def disk_of(kind, scratch) -> Iterator[Disk | None]:
    """The disk; None where the system does not let us have one."""
    place, image = Path(scratch) / "disk", Path(scratch) / "image"
    place.mkdir()
    if kind == "limit":
        yield LimitedFiles(place)
        return
    commands = [["mount", "-t", "tmpfs", "-o", f"size={DISK}", "torchgenaug-test", str(place)]]
    if kind == "ext4":
        image.touch()
        os.truncate(image, DISK)
        commands = [["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(place)]]
    if kind == "quota":
        image.touch()
        os.truncate(image, 256 << 20)
        commands = [
            ["mkfs.btrfs", "-q", str(image)],
            ["mount", "-o", "loop", str(image), str(place)],
            ["btrfs", "quota", "enable", str(place)],
            ["btrfs", "subvolume", "create", str(place / "limited")],
        ]
    try:
        for command in commands:
            subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield Quota(place / "limited") if kind == "quota" else Disk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def in_child(disk, storage, leave):
    """Renders in a forked process, which ends as any process ends: (status, what was raised)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        disk.enter_child(leave)
        try:
            render(disk.folder, storage)
        except Exception as error:
            os.write(writing, type(error).__name__.encode() + b": " + str(error).encode()[:200])
            _leave(0 if isinstance(error, ShardError) else 3)
        os.write(writing, b"done")
        _leave(0)
    os.close(writing)
    return child, reading


def _leave(status):
    """Ends a child by the exit of the C library, where HDF5 closes what is open. The contexts are the parent's."""
    gc.collect()
    ctypes.CDLL(None).exit(status)


def attempt(disk, storage, expected, chance, *, momentary, found):
    """One render while the disk is full, and one when it is not any more."""
    shutil.rmtree(disk.folder, ignore_errors=True)
    disk.empty()
    needed = sum(size for _, size in expected.values())
    leave = chance.randrange(4096, needed)
    if isinstance(disk, LimitedFiles):
        leave = chance.randrange(4096, max(size for _, size in expected.values()))
    if not momentary:
        disk.fill(leave)
    child, reading = in_child(disk, storage, leave)
    ended = 0
    while momentary and not ended:
        time.sleep(chance.uniform(0, 0.1))
        disk.fill(chance.choice((0, 0, 1 << 16)))
        time.sleep(chance.uniform(0, 0.05))
        disk.empty()
        ended, status = os.waitpid(child, os.WNOHANG)
    if not momentary:
        _, status = os.waitpid(child, 0)
    with open(reading, "rb") as pipe:
        outcome = pipe.read().decode(errors="replace")
    disk.empty()
    case = f"{type(disk).__name__} {storage} {'momentary' if momentary else leave}: {outcome}"
    found["renders"] += 1
    found["failed, and said so"] += outcome != "done"
    if os.WIFSIGNALED(status):
        found["ended by a signal"] += 1
        print(signal.Signals(os.WTERMSIG(status)).name, case, flush=True)
    elif status:
        found["raised something else"] += 1
        print(case, flush=True)
    if (disk.folder / "manifest.json").exists():
        report = verify_shards(disk.folder)
        found["damaged shards committed"] += len(report.damaged)
        found["success without all samples"] += outcome == "done" and not report.ok
        if report.damaged:
            print(case, report, flush=True)
    render(disk.folder, storage)
    wanted = {name: digest for name, (digest, _) in expected.items()}
    found["not resumed to the same bytes"] += contents(disk.folder) != wanted


def campaign(kind, renders, seed=0, storages=STORAGES):
    """What was found, by kind; None where there is no such disk."""
    torch.set_num_threads(1)
    render_module.check_space = lambda *arguments: None  # else most renders would be refused before they begin
    chance, found = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory(prefix="torchgenaug-full-") as scratch:
        expected = {}
        for number, storage in enumerate(storages[:renders]):
            whole = Path(scratch) / f"whole-{number}"
            render(whole, storage)
            sizes = {file.name: file.stat().st_size for file in whole.iterdir()}
            expected[storage] = {name: (digest, sizes[name]) for name, digest in contents(whole).items()}
            shutil.rmtree(whole)
        with disk_of(kind, scratch) as disk:
            if disk is None:
                return None
            for number in range(renders):
                storage = storages[number % len(storages)]
                momentary = kind != "limit" and number // len(storages) % 2 == 1
                attempt(disk, storage, expected[storage], chance, momentary=momentary, found=found)
    return found


def faults(found):
    """How many renders did what they must not."""
    return sum(count for name, count in found.items() if name not in ("renders", "failed, and said so"))


if __name__ == "__main__":
    seen = campaign(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    if seen is None:
        sys.exit("no such disk here")
    print({name: count for name, count in seen.items() if count or name == "renders"})
    sys.exit(1 if faults(seen) else 0)
