"""Each process of a training gets its exact share of synthetic samples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from torchgenaug import MixDistributedSampler
from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset


def mix_of(num_real, ratio, mode="replace"):
    real, synthetic = TensorDataset(torch.rand(num_real, 1, 4, 4)), TensorDataset(torch.rand(9, 1, 4, 4))
    return SyntheticMixDataset(real, synthetic, ratio, mode=mode, fields=("image",))


@given(
    num_real=st.integers(1, 50),
    ratio=st.floats(0, 0.9),
    mode=st.sampled_from(["replace", "extend"]),
    world_size=st.integers(1, 5),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
)
def test_every_rank_has_its_share(num_real, ratio, mode, world_size, epoch, shuffle):
    mix = mix_of(num_real, ratio, mode)
    shares = []
    for rank in range(world_size):
        sampler = MixDistributedSampler(mix, world_size, rank, shuffle=shuffle)
        sampler.set_epoch(epoch)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
    assert len({len(share) for share in shares}) == 1
    assert {index for share in shares for index in share} == set(range(len(mix)))
    synthetic = [int(mix.is_synthetic(share).sum()) for share in shares]
    if len(mix) % world_size == 0:
        assert max(synthetic) - min(synthetic) <= 1
        assert sum(synthetic) == mix.counts().synthetic


def test_each_pass_is_an_epoch_unless_one_is_set():
    mix = mix_of(40, 0.25)
    loader = DataLoader(mix, 5, sampler=MixDistributedSampler(mix, 2, 1))
    orders = []
    for epoch in range(3):
        orders.append(loader.sampler.indices(epoch).tolist())
        assert len(list(loader)) == 4
        assert mix.epoch == epoch
    assert len({tuple(order) for order in orders}) == 3
    loader.sampler.set_epoch(7)
    list(loader)
    assert (mix.epoch, mix.counts().synthetic) == (7, 10)


def test_the_surplus_is_dropped_on_request():
    mix = mix_of(11, 0.5)
    shares = [list(MixDistributedSampler(mix, 2, rank, drop_last=True)) for rank in range(2)]
    assert [len(share) for share in shares] == [5, 5]
    assert len(set(shares[0]) | set(shares[1])) == 10


def test_only_a_mix_has_shares():
    with pytest.raises(ConfigurationError, match=r"got list\. .* Use torch's DistributedSampler"):
        MixDistributedSampler([1, 2])
    with pytest.raises(ConfigurationError, match="`rank` and `world_size` must be integers"):
        MixDistributedSampler(mix_of(4, 0.5), 2, 2)
