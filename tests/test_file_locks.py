"""File systems without locks: one line says so, and the work is done all the same."""

from __future__ import annotations

import errno
import fcntl
import os
import warnings

import fsspec
import numpy as np
import pytest

from torchgenaug import ClassLabels, SyntheticSequence, render_shards
from torchgenaug.recipes.lock import locked
from torchgenaug.shards import open_remote, temporary
from torchgenaug.testing import AnalyticSynthesizer


@pytest.fixture
def no_locks(monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def render(path):
    sequence = SyntheticSequence(AnalyticSynthesizer((8, 8), num_classes=3), ClassLabels(3))
    return render_shards(sequence, path, 12, batch_size=2, shard_size=4, progress=False)


def test_training_says_that_a_second_run_is_not_noticed(tmp_path, no_locks):
    with (
        pytest.warns(RuntimeWarning, match=r"has no locks \(No locks available\)\. A second run .* Start one"),
        locked(tmp_path),
    ):
        pass


def test_renders_are_complete_and_say_so(tmp_path, no_locks):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        assert len(render(tmp_path / "shards")) == 12
    (text,) = {str(each.message) for each in caught}  # a filter that another module sets shows it once more
    assert text.startswith("The file system of this folder has no locks (No locks available). Renders are as safe")


@pytest.mark.filterwarnings("ignore:The file system of this folder has no locks")
def test_what_a_killed_render_left_goes_after_an_hour_only(tmp_path, no_locks):
    render(tmp_path / "shards")
    left = tmp_path / "shards" / f".torchgenaug-{temporary.KERNEL}-{'0' * 16}.tmp"
    left.touch()
    render(tmp_path / "shards")
    assert left.exists(), "its process may be alive: there is no lock that says so"
    os.utime(left, (0, 0))
    render(tmp_path / "shards")
    assert not left.exists()


def test_a_cache_says_that_all_fetch(tmp_path, monkeypatch):
    render(tmp_path / "shards")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "shards"), "/without-locks", recursive=True)

    def refuse(descriptor, operation):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(RuntimeWarning, match="has no locks"):
        source = open_remote("memory://without-locks", cache=tmp_path / "cache")
    assert len(source.read(np.arange(12))["label"]) == 12
    memory.rm("/without-locks", recursive=True)
