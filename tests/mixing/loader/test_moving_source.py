"""A pool that moves within an epoch: which samples a batch gets is a function of (seed, epoch, number of the batch)."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from by_epoch import ByEpoch, gradients
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from torchgenaug.errors import ConfigurationError, StateMismatchError
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.mixing.loader import SyntheticMixLoader
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.sources import CombinedSource
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

SIDE, SIZE, EPOCHS = 6, 26, 2
SEQUENCE = SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE)), seed=4)
IMAGES = gradients(SIZE, SIDE)


def pool_of(parts=3, **options):
    options = {"refresh": 0.5, "batch_size": 3, "background": False} | options
    return SyntheticPool(SEQUENCE, 6, refreshes_per_epoch=parts, **options)


def mix_over(pool, workers=0, batch_size=4):
    options = {"num_workers": workers, "persistent_workers": workers > 0, "sampler": ByEpoch(SIZE)}
    loader = DataLoader(TensorDataset(IMAGES), batch_size, **options)
    return SyntheticMixLoader(loader, pool, 0.5, fields=["image"], provenance=True)


def run(mix, start=0):
    batches, states = [], []
    for epoch in range(start, EPOCHS):
        mix.set_epoch(epoch)
        for image, provenance in mix:
            batches.append((epoch, image.clone(), provenance["id"]))
            states.append((epoch, len(batches), copy.deepcopy(mix.state_dict())))
    return batches, states


def assert_equal_runs(there, here):
    assert len(there) == len(here)
    for (epoch, image, ids), (other_epoch, other_image, other_ids) in zip(there, here, strict=True):
        assert epoch == other_epoch
        assert torch.equal(image, other_image)
        assert torch.equal(ids, other_ids)


@pytest.mark.parametrize("parts", [2, 3, 7, 20])
def test_a_batch_reads_the_part_that_its_number_belongs_to(parts):
    with pool_of(parts) as pool:
        mix = mix_over(pool)
        batches, _ = run(mix)
        assert len(batches) == EPOCHS * len(mix)
        seen = set()
        for number, (epoch, image, ids) in enumerate(batches):
            made = ids[ids >= 0]
            first = 3 * (epoch * parts + number % len(mix) * parts // len(mix))
            assert set(made.tolist()) <= set(range(first, first + 6))
            assert torch.equal(image[ids >= 0], SEQUENCE.batch(made.numpy())["image"])
            seen.update(made.tolist())
    if parts <= len(mix):
        # Every window was there; in a pool that moves once an epoch only 9 ids would be.
        assert len(seen) > 9
        assert max(seen) >= 3 * (EPOCHS * parts - 1)


@pytest.mark.parametrize("options", [{"background": True}, {"background": "process"}])
def test_the_same_batches_however_they_are_made_and_loaded(options):
    with pool_of() as pool:
        expected, _ = run(mix_over(pool))
    with pool_of(**options) as pool:
        mix = mix_over(pool, workers=2)
        assert_equal_runs(expected, run(mix)[0])
        assert_equal_runs(expected, run(mix_over(pool))[0])


def test_restored_at_every_step():
    with pool_of() as pool:
        whole, states = run(mix_over(pool))
    for epoch, done, state in states:
        with pool_of() as pool:
            mix = mix_over(pool)
            mix.load_state_dict(state)
            if not state["ended"]:
                # Nothing is made of the parts that are over.
                number = state["batch"] % len(mix)
                assert pool.part == (number * 3 // len(mix) if number else pool.part)
                assert pool.stats.generated <= 9
            assert_equal_runs(whole[done:], run(mix, epoch)[0])


def test_a_pool_that_somebody_else_moved_within_the_epoch_is_moved_back():
    with pool_of() as pool:
        expected, _ = run(mix_over(pool))
    with pool_of() as pool:
        batches = []
        for image, provenance in mix_over(pool):
            batches.append((0, image.clone(), provenance["id"]))
            pool.set_epoch(0, part=len(batches) % 3)
        assert_equal_runs(expected[: len(batches)], batches)


def test_without_set_epoch_the_passes_are_the_epochs():
    with pool_of() as pool:
        expected, _ = run(mix_over(pool))
    with pool_of() as pool:
        mix = mix_over(pool)
        batches = [(epoch, image.clone(), provenance["id"]) for epoch in range(EPOCHS) for image, provenance in mix]
        assert_equal_runs(expected, batches)


def test_a_changed_number_of_parts_is_another_mix():
    with pool_of(2) as pool:
        mix = mix_over(pool)
        next(iter(mix))
        state = mix.state_dict()
    with pool_of(3) as pool, pytest.raises(StateMismatchError, match="refreshes_per_epoch: saved 2, now 3"):
        mix_over(pool).load_state_dict(state)


def test_where_the_order_is_not_known_it_is_refused():
    class Endless(IterableDataset):
        def __iter__(self):
            return iter(IMAGES)

    with pool_of() as pool:
        with pytest.raises(ConfigurationError, match=r"must know its number of batches .* refreshes_per_epoch=3"):
            SyntheticMixLoader(DataLoader(Endless(), 4), pool, 0.5)
        with pytest.raises(ConfigurationError, match=r"one window of samples per epoch, got refreshes_per_epoch=3"):
            SyntheticMixDataset(TensorDataset(IMAGES), pool, 0.5, fields=["image"])
        SyntheticMixLoader(DataLoader(Endless(), 4), InMemorySource(SEQUENCE, 6), 0.5)


def test_in_a_combination_each_pool_moves_at_its_own_pace():
    with pool_of(2) as slow, pool_of(3) as quick, pool_of(1) as once:
        both = CombinedSource([slow, quick, once, InMemorySource(SEQUENCE, 6)])
        assert both.refreshes_per_epoch == 6
        where = []
        for part in range(6):
            both.set_epoch(2, part)
            where.append((slow.part, quick.part))
            assert (slow.epoch, quick.epoch, once.epoch) == (2, 2, 2)
        assert where == [(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (1, 2)]
        mix = mix_over(both)
        mix.set_epoch(0)
        list(mix)
        assert (slow.part, quick.part) == (1, 2)


def test_a_pool_that_is_elsewhere_when_a_pass_begins_is_brought_back():
    with pool_of(1) as pool:
        mix = mix_over(pool)
        pool.set_epoch(5)
        made = torch.cat([provenance["id"] for _, provenance in mix])
        assert set(made[made >= 0].tolist()) == set(range(6))


def test_a_pool_that_another_mix_moves_is_an_error():
    with pool_of(1) as pool:
        mix = mix_over(pool)
        passing = iter(mix)
        next(passing)
        pool.set_epoch(1)
        with pytest.raises(StateMismatchError, match="must be at the epoch of the mix, 0, got 1"):
            list(passing)


def test_a_pool_that_is_at_another_epoch_already_is_followed():
    with pool_of(2) as pool:
        pool.set_epoch(3, 1)
        mix = mix_over(pool)
        assert mix.epoch == 3
        _, provenance = next(iter(mix))
        ids = provenance["id"].numpy()
        assert np.isin(ids[ids >= 0], np.arange(18, 24)).all()
