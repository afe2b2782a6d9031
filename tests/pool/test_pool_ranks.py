"""Ranks share no sample, and together they have the sequence, with the bits that a render gives it."""

import os
import subprocess

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import interpreter
from torchgenaug.errors import ConfigurationError
from torchgenaug.pool import SyntheticPool
from torchgenaug.pool.storage.window import Window
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer
from torchgenaug.types import FieldSpec


class BatchBound:
    """A synthesizer whose samples depend on the batch that they are made in: only aligned batches agree."""

    fingerprint = "0" * 64

    @property
    def fields(self):
        return {"image": FieldSpec((2,))}

    def synthesize(self, seeds, conditions=None):
        values = torch.tensor([float(seed % 9973) for seed in seeds])
        return {"image": values[:, None].expand(-1, 2) + values.sum()}


@pytest.fixture
def alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@given(st.sampled_from([1, 2, 3, 8]), st.integers(1, 40), st.integers(0, 40), st.integers(1, 17), st.integers(0, 50))
@settings(deadline=None, max_examples=100)
def test_windows_are_disjoint_and_together_the_sequence(world_size, capacity, step, batch_size, epochs):
    step = min(step, capacity)
    lines = [Window(capacity, step, batch_size, 0, rank, world_size) for rank in range(world_size)]
    seen = [
        np.unique(np.concatenate([line.ids_at(line.start(e) + np.arange(capacity)) for e in range(epochs + 1)]))
        for line in lines
    ]
    together = np.concatenate(seen)
    assert len(np.unique(together)) == len(together)
    # The batches that every rank saw in full: no sample below their end is missing.
    whole = (epochs * step + capacity) // batch_size * batch_size * world_size
    assert np.array_equal(np.sort(together[together < whole]), np.arange(whole))
    for line in lines:
        for batch in line.batches(epochs).tolist():
            ids = line.ids(batch)
            assert ids[0] % batch_size == 0
            assert np.array_equal(ids, ids[0] + np.arange(batch_size))
        assert line.ids_at(np.arange(3 * batch_size)).tolist() == [k for b in range(3) for k in line.ids(b).tolist()]


@given(st.sampled_from([1, 2, 3, 8]), st.integers(1, 12), st.sampled_from([0.0, 0.3, 1.0]), st.integers(1, 7))
@settings(deadline=None, max_examples=10)
def test_every_rank_has_the_bits_of_the_aligned_batch(world_size, capacity, refresh, batch_size):
    sequence = SyntheticSequence(BatchBound(), seed=3)
    for rank in range(world_size):
        ranks = {"rank": rank, "world_size": world_size}
        with SyntheticPool(
            sequence, capacity, refresh=refresh, batch_size=batch_size, background=False, **ranks
        ) as pool:
            for epoch in (0, 2):
                pool.set_epoch(epoch)
                everywhere = np.arange(capacity)
                ids = pool.ids(everywhere)
                assert (ids // batch_size % world_size == rank).all()
                assert (pool.seeds(everywhere) == sequence.seeds(ids)).all()
                starts = ids // batch_size * batch_size
                rows = [
                    sequence.batch(np.arange(start, start + batch_size))["image"][k - start]
                    for k, start in zip(ids, starts, strict=True)
                ]
                assert torch.equal(pool.read(everywhere)["image"], torch.stack(rows))
                assert pool.stats.window == (ids[0], ids[-1] + 1)


def some_ids(**options):
    with SyntheticPool(
        SyntheticSequence(AnalyticSynthesizer((4, 4))), 4, batch_size=2, background=False, **options
    ) as pool:
        return pool.ids(np.arange(4)).tolist()


def test_the_environment_of_torchrun_is_seen(monkeypatch, alone):
    assert some_ids() == [0, 1, 2, 3]
    monkeypatch.setenv("RANK", "1")
    assert some_ids() == [0, 1, 2, 3]  # some clusters set RANK for other reasons
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert some_ids() == [2, 3, 8, 9]
    assert some_ids(rank=0, world_size=1) == [0, 1, 2, 3]
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(ConfigurationError, match="0 ≤ rank < world_size, the environment says rank 3 of 3"):
        some_ids()


@pytest.mark.parametrize("ranks", [(0, None), (None, 2), (2, 2), (-1, 2), (0, 0), (0.0, 2), (False, 2)])
def test_what_is_no_rank_is_refused(alone, ranks):
    with pytest.raises(ConfigurationError, match="`rank` and `world_size` must be integers with 0 ≤ rank < world_size"):
        some_ids(rank=ranks[0], world_size=ranks[1])


def test_two_processes_of_torch_distributed(tmp_path):
    code = f"""
import os, sys
import numpy as np, torch
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer
rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=2)
with SyntheticPool(SyntheticSequence(AnalyticSynthesizer((4, 4))), 4, refresh=0.5, batch_size=2) as pool:
    pool.set_epoch(1)
    mine = torch.from_numpy(pool.ids(np.arange(4)))
    all_ids = [torch.empty_like(mine) for _ in range(2)]
    torch.distributed.all_gather(all_ids, mine)
    if rank == 0:
        print(torch.cat(all_ids).tolist())
torch.distributed.destroy_process_group()
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    ranks = [
        interpreter.start(["-c", code, rank], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=100) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0, 0], outputs
    assert outputs[0][0] == "[4, 5, 8, 9, 6, 7, 10, 11]\n"
