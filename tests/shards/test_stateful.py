"""A shard folder in any order of events, against a model of what must be there.

In the manner of zarr's store tests: render, kill, fill the disk, damage, restore, repair, extend, read, copy. After
each step: what was committed is there with its very bytes unless it was damaged on purpose; what is read is right or
refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from shards_helpers import render, small_sequence

from torchgenaug import ShardSource, verify_shards
from torchgenaug.errors import ShardCorruptError, ShardError, ShardIncompleteError
from torchgenaug.shards import temporary
from torchgenaug.shards.folder import read_manifest

SIZE = 4  # samples per shard


class FailingDisk:
    """`os` for the shards' folder, on which something happens at its n-th change.

    Args:
        left: how many changes go well.
        killed: then nothing changes any more, as if the process were dead, its clean-up included. False: the disk is
            full for writes, and only for those.
    """

    def __init__(self, left, *, killed):
        self.left, self._killed = left, killed

    def _may(self):
        self.left -= 1
        return self.left >= 0

    def pwrite(self, descriptor, content, position):
        if self._may():
            return os.pwrite(descriptor, content, position)
        raise OSError(errno.EIO if self._killed else errno.ENOSPC, "injected")

    def replace(self, old, new):
        if self._killed and not self._may():
            raise OSError(errno.EIO, "injected")
        os.replace(old, new)

    def unlink(self, path):
        if not self._killed or self._may():
            os.unlink(path)

    def __getattr__(self, name):
        return getattr(os, name)


class Folder(RuleBasedStateMachine):
    """The model: how many samples are planned, and the bytes of each shard that was ever committed."""

    def __init__(self):
        super().__init__()
        self.scratch = Path(tempfile.mkdtemp(prefix="torchgenaug-stateful-"))
        self.path, self.copies = self.scratch / "0", 0
        self.bytes: dict[str, bytes] = {}
        self.damaged: set[str] = set()
        self.begun = False

    def teardown(self):
        shutil.rmtree(self.scratch)

    @initialize(count=st.integers(1, 14), compression=st.sampled_from([None, "gzip", "lz4"]))
    def plan(self, count, compression):
        self.count, self.compression = count, compression

    def _render(self, **options):
        return render(self.path, self.count, compression=self.compression, **options)

    def _look(self):
        """Notes what is there now, and compares it with what was committed before."""
        self.begun = (self.path / "manifest.json").exists()
        there = {file.name: file.read_bytes() for file in self.path.glob("shard-*")} if self.begun else {}
        for name, content in there.items():
            if name not in self.damaged:
                assert self.bytes.setdefault(name, content) == content, "a committed shard never changes"
        return there

    @rule()
    def render_all(self):
        source = self._render(resume="verify" if self.damaged else True)
        self.damaged.clear()
        assert len(source) == self.count
        assert verify_shards(self.path).ok

    @rule(left=st.integers(0, 30), killed=st.booleans(), resume=st.sampled_from([True, "verify"]))
    def interrupted(self, left, killed, resume):
        """Killed, or the disk is full, at any change of the folder."""
        disk = mock.patch.object(temporary, "os", FailingDisk(left, killed=killed))
        with disk, contextlib.suppress(OSError, ShardError):
            self._render(resume=resume)
        self._forget_repaired()

    @rule(more=st.integers(1, 9), left=st.one_of(st.none(), st.integers(0, 20)), killed=st.booleans())
    @precondition(lambda self: self.begun and self.count < 40)
    def extend(self, more, left, killed):
        was, self.count = self.count, self.count + more
        try:
            with mock.patch.object(temporary, "os", FailingDisk(1 << 30 if left is None else left, killed=killed)):
                self._render(resume="extend")
        except (OSError, ShardError):
            assert left is not None or self.damaged
            self.count = read_manifest(self.path).count
            assert self.count in (was, was + more), "the old plan or the longer one"
        if was % SIZE:  # a last shard that was not full gives way to one that is
            short = {name for name in self.bytes if int(name[6:11]) == was // SIZE}
            for name in short:
                self.damaged.discard(name)
                if not (self.path / name).exists():
                    del self.bytes[name]
        self._forget_repaired()

    @rule(chance=st.randoms(use_true_random=False), how=st.sampled_from(["flip", "cut", "remove"]))
    @precondition(lambda self: self._sound())
    def damage(self, chance, how):
        file = chance.choice(self._sound())
        content = bytearray(file.read_bytes())
        if how == "remove":
            file.unlink()
        elif how == "cut":
            file.write_bytes(content[: chance.randrange(len(content))])
        else:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            file.write_bytes(content)
        self.damaged.add(file.name)

    @rule()
    @precondition(lambda self: self.damaged)
    def restore(self):
        """From a backup."""
        for name in self.damaged:
            (self.path / name).write_bytes(self.bytes[name])
        self.damaged.clear()

    @rule()
    @precondition(lambda self: self.begun)
    def copy(self):
        self.copies += 1
        target = self.scratch / str(self.copies)
        shutil.copytree(self.path, target)
        self.path = target

    @rule(verify=st.sampled_from(["sample", "hash"]), mmap=st.booleans(), chance=st.randoms(use_true_random=False))
    @precondition(lambda self: self.begun)
    def read(self, verify, mmap, chance):
        positions = np.array([chance.randrange(self.count) for _ in range(5)])
        expected = small_sequence().batch(positions.tolist())
        try:
            found = ShardSource(self.path, verify=verify, mmap=mmap).read(positions)
        except (ShardIncompleteError, ShardCorruptError):
            assert not verify_shards(self.path).ok
            return
        for name, values in expected.items():
            assert torch.allclose(found[name].double(), values.double(), atol=1e-4)

    @invariant()
    def committed_shards_are_there(self):
        there = self._look()
        assert self.bytes.keys() - self.damaged <= there.keys(), "0 committed samples lost"

    @invariant()
    def damage_is_found(self):
        if self.begun:
            report = verify_shards(self.path)
            assert set(report.damaged) == {name for name in self.damaged if (self.path / name).exists()}

    def _sound(self):
        return sorted(file for file in self.path.glob("shard-*") if file.name not in self.damaged)

    def _forget_repaired(self):
        """A shard that a render has made again is as it was."""
        for name in [*self.damaged]:
            file = self.path / name
            if file.exists() and file.read_bytes() == self.bytes[name]:
                self.damaged.discard(name)


_QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much]
TestFolder = Folder.TestCase
TestFolder.settings = settings(
    max_examples=10, stateful_step_count=8, deadline=None, derandomize=True, suppress_health_check=_QUIET
)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(10))
def test_three_hundred_stories(part):
    """``pytest -m slow tests/shards/test_stateful.py -k three_hundred``: ten parts of 30 stories of up to 30 events."""

    class Part(Folder):
        """Stories of its own, the same in every run."""

    run_state_machine_as_test(
        seed(part)(Part),
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=_QUIET,
            derandomize=False,
        ),
    )
