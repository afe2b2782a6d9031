"""Samples that were rendered are read, the others made, and no sample is another for it."""

import numpy as np
import pytest
import torch

from tests import clean_interpreter
from torchgenaug.errors import ConfigurationError, PoolError, ShardCorruptError, ShardNotFoundError
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.shards import ShardSource, render_shards
from torchgenaug.testing import AnalyticSynthesizer
from torchgenaug.types import FieldSpec


class Counting:
    """Samples that depend on their batch, and a list of the ids' counts that were asked for."""

    fingerprint = "0" * 64

    def __init__(self, largest=1000):
        self.calls, self.largest = [], largest

    @property
    def fields(self):
        return {"image": FieldSpec((2, 3)), "label": FieldSpec((), torch.int64, kind="scalar")}

    def synthesize(self, seeds, conditions=None):
        self.calls.append(len(seeds))
        if len(seeds) > self.largest:
            raise RuntimeError("CUDA error: out of memory")
        values = torch.tensor([float(seed % 9973) for seed in seeds])
        return {
            "image": values[:, None, None].expand(-1, 2, 3) + values.sum(),
            "label": torch.tensor([seed % 7 for seed in seeds]),
        }


@pytest.fixture
def sequence():
    return SyntheticSequence(Counting(), seed=4)


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("count", [8, 20, 22])
def test_rendered_samples_are_read_and_the_others_made(tmp_path, sequence, background, count):
    source = render_shards(sequence, tmp_path / "shards", count, batch_size=4, shard_size=8)
    everywhere = np.arange(12)
    sequence.synthesizer.calls.clear()
    options = {"refresh": 0.5, "batch_size": 4, "background": background}
    with (
        SyntheticPool(sequence, 12, shards=source, **options) as pool,
        SyntheticPool(SyntheticSequence(Counting(), seed=4), 12, **options) as plain,
    ):
        for step, epoch in enumerate((0, 1, 2, 5, 0)):
            pool.set_epoch(epoch)
            plain.set_epoch(epoch)
            ids = pool.ids(everywhere)
            held = ids < count
            read, expected = pool.read(everywhere), plain.read(everywhere)
            whole = ids < count // 4 * 4  # not in the last, short batch of the render
            for name, value in read.items():
                assert torch.equal(value[whole | ~held], expected[name][whole | ~held])
                assert torch.equal(value[held], source.read(ids[held])[name])
            if not background and step == 0:
                assert (len(sequence.synthesizer.calls) > 0) == (count < 12)
        if background:
            pool.close()
        stats = pool.stats
        assert stats.loaded > 0
        assert stats.generated == sum(sequence.synthesizer.calls)
        assert stats.samples_per_s == (stats.generated + stats.loaded) / stats.fill_s
        assert f"generated {stats.generated}, loaded {stats.loaded} at" in repr(pool)


def test_a_path_serves_and_forked_workers_read_on(tmp_path, sequence):
    render_shards(sequence, tmp_path / "shards", 8, batch_size=4)
    sequence.synthesizer.calls.clear()
    with SyntheticPool(sequence, 8, shards=str(tmp_path / "shards"), refresh=0, batch_size=4) as pool:

        class Samples(torch.utils.data.Dataset):
            def __len__(self):
                return len(pool)

            def __getitems__(self, indices):
                return list(pool.read(np.array(indices))["image"])

        got = torch.cat(list(torch.utils.data.DataLoader(Samples(), batch_size=4, num_workers=1)))
        assert torch.equal(got, ShardSource(tmp_path / "shards").read(np.arange(8))["image"])
        assert pool.stats.generated == 0
        assert sequence.synthesizer.calls == []


def test_another_sequence_is_refused_and_both_are_named(tmp_path, sequence):
    other = SyntheticSequence(Counting(), seed=5)
    source = render_shards(other, tmp_path / "shards", 8, batch_size=4)
    with pytest.raises(ConfigurationError) as raised:
        SyntheticPool(sequence, 8, shards=source)
    assert sequence.fingerprint in str(raised.value)
    assert other.fingerprint in str(raised.value)


def test_rounded_samples_are_refused(tmp_path):
    sequence = SyntheticSequence(AnalyticSynthesizer((8, 8)))
    source = render_shards(sequence, tmp_path / "shards", 8, dtype="float16")
    with pytest.raises(ConfigurationError, match=r"must be stored exactly, got .*\{'image': .*dtype=None"):
        SyntheticPool(sequence, 8, shards=source)


def test_what_is_no_render_is_refused(tmp_path, sequence):
    with pytest.raises(ConfigurationError, match="must be a ShardSource or the path of a shard folder, got int"):
        SyntheticPool(sequence, 8, shards=3)
    with pytest.raises(ShardNotFoundError):
        SyntheticPool(sequence, 8, shards=tmp_path / "nothing")


@pytest.mark.parametrize("background", [True, False])
def test_damage_on_disk_is_told(tmp_path, sequence, background):
    source = render_shards(sequence, tmp_path / "shards", 8, batch_size=4)
    (file,) = (tmp_path / "shards").glob("*.h5")
    content = bytearray(file.read_bytes())
    value = source.read(np.array([5]))["image"].numpy().tobytes()
    at = content.find(value)
    content[at] ^= 1
    file.write_bytes(content)
    with SyntheticPool(sequence, 8, shards=source, batch_size=4, background=background) as pool:
        with pytest.raises(PoolError, match="checksum of field 'image' is wrong for ids 5") as raised:
            pool.set_epoch(0)
        assert isinstance(raised.value.__cause__, ShardCorruptError)


@pytest.mark.parametrize("background", [True, False])
def test_memory_that_runs_out(background):
    small, large = (SyntheticSequence(Counting(largest=size)) for size in (3, 1000))
    with SyntheticPool(small, 16, batch_size=8, background=background) as pool:
        assert pool.stats.call_size == 8
        pool.set_epoch(0)
        expected = [large.batch(np.arange(k, k + 2))["image"] for k in range(0, 16, 2)]
        assert torch.equal(pool.read(np.arange(16))["image"], torch.cat(expected))
        assert (pool.stats.call_size, pool.stats.memory_failures) == (2, 2)
        assert "in calls of 2 (out of memory)" in repr(pool)
    assert small.synthesizer.calls[:7] == [8, 4, 2, 2, 2, 2, 2]
    nothing_fits = SyntheticSequence(Counting(largest=0))
    with (
        SyntheticPool(nothing_fits, 16, batch_size=8, background=background) as pool,
        pytest.raises(PoolError, match=r"(?s)CUDA error: out of memory.*Not even one sample at a time"),
    ):
        pool.set_epoch(0)


def test_a_fork_waits_for_a_read_and_never_holds_what_it_needs(tmp_path):
    """h5py locks itself before a fork, and is imported after the pool here."""
    code = f"""
import os, sys, threading, time
import subprocess
import sys

import numpy as np
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer
SyntheticPool(SyntheticSequence(AnalyticSynthesizer((8, 8))), 4, batch_size=4).close()
assert "h5py" not in sys.modules
from torchgenaug.shards import ShardSource, render_shards
sequence = SyntheticSequence(AnalyticSynthesizer((8, 8)))
source = render_shards(sequence, {str(tmp_path / "shards")!r}, 8, batch_size=4, shard_size=4)
read, reading = ShardSource.read, threading.Event()
def slow(self, positions):
    if positions[0] == 4:  # of a shard that was not opened yet
        reading.set()
        time.sleep(0.3)  # the fork comes now
    return read(self, positions)
ShardSource.read = slow
with SyntheticPool(sequence, 8, shards=source, batch_size=4, timeout_s=20) as pool:
    reading.wait()
    since = time.monotonic()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    pool.set_epoch(0)
    print(time.monotonic() - since < 15)
"""
    done = clean_interpreter.run(["-c", code], timeout=100)
    assert (done.stdout, done.stderr) == ("True\n", "")
