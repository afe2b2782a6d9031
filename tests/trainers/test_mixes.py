"""Mixes are found wherever loaders keep them, and refused where data must be real."""

from __future__ import annotations

import pytest
import torch
import torchio as tio
from monai.data import CacheDataset
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from torchgenaug.errors import ConfigurationError, PoolError
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.mixing.loader import SyntheticMixLoader
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource
from torchgenaug.trainers.mixes import MixesOf

SEQUENCE = SyntheticSequence(AnalyticSynthesizer((4, 4)))
REAL = TensorDataset(torch.rand(8, 1, 4, 4))


def mix_of(ratio=0.5, source=None):
    return SyntheticMixDataset(REAL, source or InMemorySource(SEQUENCE, 4), ratio, fields=["image"])


class Own(Dataset):
    def __init__(self, inner):
        self.base = inner

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.base[index]


WRAPPED = {
    "a class of the user's": lambda mix: DataLoader(Own(mix)),
    "itself": lambda mix: mix,
    "loader": lambda mix: DataLoader(mix),
    "subset": lambda mix: DataLoader(Subset(mix, [0, 1])),
    "concatenation": lambda mix: DataLoader(ConcatDataset([REAL, mix])),
    "list": lambda mix: [DataLoader(REAL), DataLoader(mix)],
    "dict": lambda mix: {"a": DataLoader(mix)},
    "cache": lambda mix: DataLoader(CacheDataset(mix, lambda sample: sample, progress=False)),
    "mixed loader": lambda mix: SyntheticMixLoader(DataLoader(mix), mix.source, fields=["image"]),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_finds_and_moves_the_mix(name):
    mix = mix_of()
    found = MixesOf(WRAPPED[name](mix))
    assert any(each is mix for each in found.mixes)
    found.set_epoch(3)
    assert mix.epoch == 3
    with pytest.raises(ConfigurationError, match=r"Validation data must be real, got SyntheticMix.* Give the real"):
        found.refuse("validation")


def test_queue_of_torchio():
    subjects = [tio.Subject(image=tio.ScalarImage(tensor=torch.rand(1, 4, 4, 4))) for _ in range(4)]
    mix = SyntheticMixDataset(tio.SubjectsDataset(subjects), tio.SubjectsDataset(subjects), 0.5)
    queue = tio.Queue(mix, 4, 2, tio.UniformSampler(2), num_workers=0)
    assert MixesOf(tio.SubjectsLoader(queue)).mixes == [mix]


def test_real_data_pass_and_a_source_is_refused():
    MixesOf(DataLoader(REAL)).refuse("test")
    MixesOf(DataLoader(mix_of(0.0))).refuse("test")
    MixesOf(None).refuse("test")
    with pytest.raises(ConfigurationError, match="Test data must be real, got InMemorySource"):
        MixesOf(DataLoader(InMemorySource(SEQUENCE, 4))).refuse("test")


def test_closes_pools():
    pool = SyntheticPool(SEQUENCE, 4, batch_size=2, background=False)
    mix = mix_of(source=pool)
    MixesOf(DataLoader(mix)).close_pools()
    with pytest.raises(PoolError, match="closed"):
        pool.read(torch.zeros(1, dtype=torch.int64).numpy())
