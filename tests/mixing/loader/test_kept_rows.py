"""Rows that are replaced are not read, and the batches are what they would have been."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    TensorDataset,
    default_collate,
)

from torchgenaug.mixing.loader import SyntheticMixLoader
from torchgenaug.mixing.loader.kept_rows import KeptRows
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

SOURCE = InMemorySource(SyntheticSequence(AnalyticSynthesizer((6, 6))), 8)


def numbered(size):
    """Mask k holds k everywhere."""
    return torch.arange(size).reshape(-1, 1, 1, 1).expand(size, 1, 6, 6).clone()


class Counting(Dataset):
    """Samples by index, or whole batches by a list of indices; counts what is read."""

    def __init__(self, size):
        self.images, self.rows = torch.rand(size, 1, 6, 6), numbered(size)
        self.read = []

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        self.read.extend(index if isinstance(index, list) else [index])
        return self.images[index], self.rows[index]


class OddLists(Sampler):
    """Lists of indices of any length, with repeats."""

    def __init__(self, sizes, total):
        self.sizes, self.total = sizes, total

    def __len__(self):
        return len(self.sizes)

    def __iter__(self):
        for number, size in enumerate(self.sizes):
            yield torch.randint(self.total, (size,), generator=torch.Generator().manual_seed(number)).tolist()


def item_loader(data, **options):
    return DataLoader(data, 8, **{"shuffle": True, "generator": torch.Generator().manual_seed(1)} | options)


def batch_loader(data, **options):
    order = RandomSampler(data, generator=torch.Generator().manual_seed(1))
    return DataLoader(data, sampler=BatchSampler(order, 8, False), batch_size=None, **options)


def mix_of(loader, ratio, **options):
    return SyntheticMixLoader(loader, SOURCE, ratio, fields=["image", "mask"], **options)


def read_whole(monkeypatch):
    monkeypatch.setattr(KeptRows, "applies", staticmethod(lambda loader: False))


def alike(found, expected):
    assert len(found) == len(expected) > 0
    for mine, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("make", [item_loader, batch_loader])
@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.9, 1.0, lambda epoch: 0.3 * epoch])
def test_the_same_batches_from_fewer_reads(make, ratio, monkeypatch):
    data = Counting(50)
    mix = mix_of(make(data), ratio)
    found = [list(map(list, mix)) for _ in range(3)]
    flags, read = mix.is_synthetic, len(data.read)
    data.read.clear()
    read_whole(monkeypatch)
    whole = mix_of(make(data), ratio)
    for batches in found:
        alike(batches, list(map(list, whole)))
    assert torch.equal(flags, whole.is_synthetic)
    assert len(data.read) == 150
    kept = sum(len(batch[1]) for epoch in found for batch in epoch)
    if not callable(ratio):
        if make is batch_loader:
            assert read == 150
        else:  # one row is read where all of a batch are replaced
            assert read == pytest.approx(kept * (1 - ratio), abs=2 if ratio < 0.9 else 21)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.sampled_from([0.1, 0.5, 1.0]), st.integers(0, 2))
def test_lists_of_any_length(sizes, ratio, seed):
    def loader():
        return DataLoader(Counting(20), batch_sampler=OddLists(sizes, 20))

    torch.manual_seed(0)
    found = [(list(batch), mix.is_synthetic) for mix in [mix_of(loader(), ratio, seed=seed)] for batch in mix]
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        read_whole(patch)
        mix = mix_of(loader(), ratio, seed=seed)
        expected = [(list(batch), mix.is_synthetic) for batch in mix]
    alike([batch for batch, _ in found], [batch for batch, _ in expected])
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found, expected, strict=True))


@pytest.mark.parametrize("make", [item_loader, batch_loader])
@pytest.mark.parametrize("done", [1, 4])
def test_goes_on_in_the_middle_of_an_epoch(make, done):
    first = mix_of(make(Counting(50)), 0.5)
    list(first)
    batches = iter(first)
    for _ in range(done):
        next(batches)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    expected = [list(batch) for batch in batches] + [list(batch) for batch in first]
    file.seek(0)
    data = Counting(50)
    data.images = first.dataset.images
    second = mix_of(make(data), 0.5)
    second.load_state_dict(torch.load(file, weights_only=True))
    alike([list(batch) for batch in second] + [list(batch) for batch in second], expected)


def test_workers_read_fewer_rows_too(monkeypatch):
    def batches():
        loader = item_loader(Counting(200), shuffle=False, num_workers=1, persistent_workers=True, prefetch_factor=1)
        mix = mix_of(loader, 0.5)
        found = [list(batch) for _ in range(2) for batch in mix]
        assert loader._iterator is None  # the workers are those of the other loader
        return found

    found = batches()
    read_whole(monkeypatch)
    mix = mix_of(item_loader(Counting(200), shuffle=False), 0.5)
    assert [batch[1].tolist() for batch in found] == [batch[1].tolist() for _ in range(2) for batch in mix]


class Augmented(Counting):
    """As transforms do that draw from the random state of their worker."""

    def __getitem__(self, index):
        image, row = super().__getitem__(index)
        return image + 0.01 * torch.rand(1), row


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("ratio", [0.25, 0.9])
def test_augmented_rows_are_the_same_after_a_resume(workers, ratio):
    """What is read must not depend on what this loader has read before."""
    data = Augmented(40)

    def build():
        return mix_of(item_loader(data, num_workers=workers), ratio)

    first = build()
    batches = iter(first)
    for _ in range(2):
        next(batches)
    state = first.state_dict()
    rest = [list(batch) for batch in batches]
    second = build()
    second.load_state_dict(state)
    alike([list(batch) for batch in second], rest)


class Fewer(Counting):
    """Leaves out what it cannot read."""

    def __getitem__(self, index):
        return super().__getitem__([row for row in index if row not in self.unreadable])


def test_batches_with_other_rows_than_indices_are_read_whole():
    data = Fewer(64)
    data.unreadable = range(0, 64, 4)
    mix = mix_of(DataLoader(data, sampler=BatchSampler(range(64), 8, False), batch_size=None), 0.5)
    assert [len(batch[0]) for batch in mix] == [6] * 8
    assert data.read == [row for row in range(64) if row % 4]


def test_settings_of_the_loader_are_those_that_it_has_now():
    loader = DataLoader(Counting(16), 8, num_workers=0)
    mix = mix_of(loader, 0.5)
    list(mix)
    twin = mix._wrapped._kept._same_loader()
    assert twin is mix._wrapped._kept._same_loader()
    loader.generator = torch.Generator()
    assert mix._wrapped._kept._same_loader().generator is loader.generator


class Stream(IterableDataset):
    def __iter__(self):
        return iter(TensorDataset(torch.rand(8, 1, 6, 6), numbered(8)))


class Own(DataLoader):
    pass


class Queue(Counting):
    __module__ = "torchio.data.queue"


@pytest.mark.parametrize(
    ("loader", "applies"),
    [
        (lambda data: DataLoader(data, 4), True),
        (lambda data: DataLoader(data, batch_size=None), False),
        (lambda data: Own(data, 4), False),
        (lambda data: DataLoader(data, 4, collate_fn=lambda samples: default_collate(samples)), False),
        (lambda data: DataLoader(data, 4, num_workers=1, in_order=False), False),
        (lambda data: DataLoader(Stream(), 4), False),
        (lambda data: DataLoader(Queue(8), 4), False),
        (lambda data: [default_collate([data[0]])], False),
    ],
)
def test_who_may_see_fewer_rows(loader, applies):
    assert KeptRows.applies(loader(Counting(8))) is applies


def test_single_samples_are_not_thinned():
    """Without a batch size the sampler gives indices, and each sample is a batch of its own."""
    data = TensorDataset(torch.rand(6, 3, 1, 6, 6), numbered(18).reshape(6, 3, 1, 6, 6))
    mix = mix_of(DataLoader(data, batch_size=None), 1 / 3)
    assert [(len(batch[0]), int(mix.is_synthetic.sum())) for batch in mix] == [(3, 1)] * 6


def test_what_is_extended_is_read_whole():
    data = Counting(16)
    assert sum(len(batch[0]) for batch in mix_of(item_loader(data), 0.5, mode="extend")) == 32
    assert len(data.read) == 16
    assert np.unique(data.read).size == 16


def test_a_sampler_inside_of_a_sampler_moves_with_the_epoch():
    class Moved(RandomSampler):
        def set_epoch(self, epoch):
            self.epoch = epoch

    order = Moved(range(16))
    mix = mix_of(DataLoader(Counting(16), sampler=BatchSampler(order, 8, False), batch_size=None), 0.5)
    mix.set_epoch(3)
    assert order.epoch == 3
