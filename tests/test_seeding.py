from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchgenaug import seeding

keys = st.integers(-(2**63), 2**64 - 1)


@given(keys, keys, st.integers(1, 300))
def test_derive_is_one_to_one_in_the_last_key(first, second, count):
    seeds = seeding.derive(first, second, np.arange(count))
    assert seeds.dtype == np.uint64
    assert len(np.unique(seeds)) == count


@given(keys, keys, st.lists(st.integers(0, 2**62), min_size=1, max_size=20))
def test_derive_is_vectorised_without_difference(first, second, last):
    together = seeding.derive(first, second, last)
    assert together.tolist() == [int(seeding.derive(first, second, key)) for key in last]


def test_derive_is_frozen():
    """These numbers stand in users' manifests: a change here changes every sample that anybody ever rendered."""
    assert seeding.derive(0, 0, [0, 1]).tolist() == [14807618454361408958, 14264577618602282150]
    assert seeding.permutation(0, 8).tolist() == [3, 1, 6, 7, 2, 0, 5, 4]


def test_every_key_bit_moves_about_half_of_the_seed_bits():
    base = int(seeding.derive(1, 2, 3))
    for bit in range(62):
        for changed in (seeding.derive(1, 2, 3 ^ (1 << bit)), seeding.derive(1, 2 ^ (1 << bit), 3)):
            assert 12 <= (base ^ int(changed)).bit_count() <= 52


def test_the_low_half_of_a_seed_depends_on_every_bit_of_a_key():
    """torch's CPU generator keeps nothing but the low 32 bits."""
    low = 0xFFFFFFFF
    base = int(seeding.derive(1, 2, 3)) & low
    for bit in range(62):
        for changed in (seeding.derive(1, 2, 3 ^ (1 << bit)), seeding.derive(1, 2 ^ (1 << bit), 3)):
            assert 4 <= (base ^ (int(changed) & low)).bit_count() <= 28


def test_order_of_keys_matters():
    assert seeding.derive(1, 2, 3) != seeding.derive(1, 3, 2)
    assert seeding.derive(0, 0) != seeding.derive(0, 0, 0)


@given(st.integers(0, 2**63 - 1), st.integers(0, 200))
def test_permutation_is_one(seed, size):
    assert sorted(seeding.permutation(seed, size).tolist()) == list(range(size))


@pytest.mark.parametrize("size", [0, 1, 9, 65_535, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1, 2**64 - 1, -5])
def test_permutation_sorts_by_hash(seed, size):
    """However it is computed, this is what it is: users' plans rest on it."""
    hashes = seeding.derive(seed, seeding.PLAN, np.arange(size, dtype=np.uint64))
    order = seeding.permutation(seed, size)
    assert order.dtype == np.int64
    assert np.array_equal(order, np.argsort(hashes, kind="stable"))


def test_permutation_takes_no_memory_but_its_own():
    tracemalloc.start()
    try:
        seeding.permutation(0, 1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_permutation_is_unbiased():
    where = np.stack([seeding.permutation(seed, 5) for seed in range(2000)])
    for place in range(5):
        counts = np.bincount(where[:, place], minlength=5)
        assert np.abs(counts - 400).max() < 90  # 5 standard deviations


def test_normal_noise_is_normal():
    from scipy import stats

    noise = seeding.normal(seeding.derive(0, np.arange(500)), (1, 30, 41))
    assert noise.shape == (500, 1, 30, 41)
    assert noise.dtype == torch.float32
    flat = noise.flatten().numpy().astype(np.float64)
    assert stats.kstest(flat, "norm").pvalue > 1e-4
    # Neighbours within a sample, the same element of consecutive samples, and the two halves of a Box-Muller pair.
    rows = noise.flatten(1).numpy()
    for a, b in ((rows[:, :-1], rows[:, 1:]), (rows[:-1], rows[1:]), (rows[:, :615], rows[:, 615:])):
        for power in (1, 2):
            assert abs(np.corrcoef(a.ravel() ** power, b.ravel() ** power)[0, 1]) < 0.01


def test_raw_sequential_seeds_are_fine_too():
    noise = seeding.normal(range(300), (1000,)).numpy()
    correlation = np.corrcoef(noise)[np.triu_indices(300, 1)]
    assert np.abs(correlation).max() < 0.2  # 6 standard deviations of 1/sqrt(1000)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9), st.integers(1, 70))
def test_noise_does_not_depend_on_the_batch(seeds, size):
    together = seeding.normal(seeds, (size,))
    for row, seed in enumerate(seeds):
        assert torch.equal(together[row], seeding.normal([seed], (size,))[0])


def plain_normal(seed, size):
    """The definition of the noise, one integer at a time. Users' samples rest on it: it must never change."""
    mask, half = (1 << 64) - 1, (size + 1) // 2

    def mix(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
        return x ^ (x >> 31)

    bits = [mix(seed ^ mix(k * 0x9E3779B97F4A7C15 & mask)) for k in range(1, half + 1)]
    upper = torch.tensor([(word >> 32) - ((word >> 63) << 32) for word in bits]).to(torch.float32)
    lower = torch.tensor([word & 0xFFFFFFFF for word in bits]).to(torch.float32)
    radius = (upper * 2.0**-32 + 0.5).clamp(min=2.0**-33).log().mul(-2.0).sqrt()
    angle = lower * (np.pi * 2.0**-31)
    return torch.cat([angle.cos() * radius, angle.sin() * radius])[:size]


@pytest.mark.parametrize("size", [1, 2, 33, 5000])
def test_noise_is_frozen(size):
    seeds = seeding.derive(7, np.arange(3))
    for seed, row in zip(seeds.tolist(), seeding.normal(seeds, (size,)), strict=True):
        assert torch.equal(row, plain_normal(seed, size))


def test_noise_of_many_blocks_is_that_of_one(monkeypatch):
    expected = seeding.normal(range(50), (3, 40))
    monkeypatch.setattr(seeding, "_BLOCK", 7 * 60)
    assert torch.equal(seeding.normal(range(50), (3, 40)), expected)


@pytest.mark.parametrize("seed", [0x309FCBB65972C757, 0xFAF873ABA8D1C8E9])
def test_noise_is_finite_where_the_uniform_number_rounds_to_0(seed):
    """Found by inverting the hash: the first 32 bits are the smallest that there are, and 64 more."""
    noise = seeding.normal([seed], (2,))
    assert noise.isfinite().all()
    assert noise.norm().item() == pytest.approx(np.sqrt(66 * np.log(2)), abs=1e-4)


def test_noise_of_nothing():
    assert seeding.normal([], (3, 4)).shape == (0, 3, 4)
    assert seeding.normal([1, 2], (0, 4)).shape == (2, 0, 4)


def test_noise_uses_all_64_bits_of_the_seed():
    low, high = seeding.normal([5, 5 + (1 << 32)], (100,))
    assert abs(np.corrcoef(low, high)[0, 1]) < 0.5


def test_torch_generator_would_not():
    """The reason for our own noise; when this fails, torch has changed and the reason is gone."""
    a, b = (torch.randn(8, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5 + (1 << 32)))
    assert torch.equal(a, b)


def test_global_generators_are_left_alone():
    before = torch.get_rng_state()
    seeding.normal([1], (10,))
    assert torch.equal(before, torch.get_rng_state())


def test_uniform():
    draws = seeding.uniform(np.arange(2000), 10)
    assert draws.shape == (2000, 10)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.01


@pytest.mark.gpu
def test_same_noise_on_the_gpu():
    seeds = seeding.derive(0, np.arange(7))
    on_gpu = seeding.normal(seeds, (3, 33), device=torch.device("cuda"))
    assert (on_gpu.cpu() - seeding.normal(seeds, (3, 33))).abs().max() <= 1e-5
