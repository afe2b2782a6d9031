"""A pass that was interrupted is begun again in its own order, or is refused: never resumed in another one."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from torchgenaug.errors import ConfigurationError, StateMismatchError
from torchgenaug.mixing.loader import SyntheticMixLoader
from torchgenaug.mixing.loader.order import LoaderOrder
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

SIZE, BATCH = 48, 8
SOURCE = InMemorySource(SyntheticSequence(AnalyticSynthesizer((6, 6))), 8)
DATA = TensorDataset(SOURCE.read(np.arange(8))["image"].repeat(6, 1, 1, 1), torch.arange(SIZE))


class Shuffled(Sampler):
    """Shuffles with what it is given: a function of a list."""

    def __init__(self, shuffle):
        self.shuffle = shuffle

    def __len__(self):
        return SIZE

    def __iter__(self):
        order = list(range(SIZE))
        self.shuffle(order)
        return iter(order)


class WithPrivateGenerator(Shuffled):
    def __init__(self):
        self.rng = np.random.default_rng(3)
        super().__init__(self.rng.shuffle)


ORDERS = {
    "shuffle": lambda: {"shuffle": True},
    "shuffle, generator": lambda: {"shuffle": True, "generator": torch.Generator().manual_seed(1)},
    "sampler": lambda: {"sampler": RandomSampler(DATA)},
    "weighted": lambda: {"sampler": WeightedRandomSampler([1.0] * SIZE, SIZE)},
    "subset": lambda: {"sampler": SubsetRandomSampler(range(SIZE))},
    "numpy": lambda: {"sampler": Shuffled(np.random.shuffle)},
    "python": lambda: {"sampler": Shuffled(random.shuffle)},
    "batches as samples": lambda: {"sampler": BatchSampler(RandomSampler(DATA), BATCH, False), "batch_size": None},
}


def mix_of(order):
    options = order()
    return SyntheticMixLoader(
        DataLoader(DATA, **{"batch_size": BATCH} | options), SOURCE, ratio=0.0, fields=["image", "id"]
    )


def seed_all(seed):
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("done", [1, 4])
def test_goes_on_where_it_was_whatever_shuffles(name, done):
    seed_all(0)
    first = mix_of(ORDERS[name])
    batches = iter(first)
    seen = [next(batches)[1].tolist() for _ in range(done)]
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    expected = seen + [batch[1].tolist() for batch in batches]
    seed_all(99)  # a new process has other global generators
    second = mix_of(ORDERS[name])
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=name.startswith(("shuffle", "weighted", "batches"))))
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())
    rest = []
    for batch in second:
        if not rest:  # what the order was drawn from is put back, and taken away again
            assert torch.equal(before[0], torch.get_rng_state())
            assert (before[1], before[2]) == (np.random.get_state()[1].tolist(), random.getstate())
        rest.append(batch[1].tolist())
    assert seen + rest == expected


@pytest.mark.parametrize(
    ("saved", "now"),
    [
        ("shuffle", "shuffle, generator"),
        ("shuffle, generator", "shuffle"),
        ("shuffle", "weighted"),
        ("subset", "python"),
    ],
)
def test_a_state_of_another_order_is_refused(saved, now):
    begun = mix_of(ORDERS[saved])
    next(iter(begun))
    with pytest.raises(StateMismatchError, match=r"order: saved '.*', now '.*"):
        mix_of(ORDERS[now]).load_state_dict(begun.state_dict())


def test_an_order_that_cannot_be_repeated_is_refused_when_it_is_saved():
    mix = mix_of(lambda: {"sampler": WithPrivateGenerator()})
    mix.state_dict()  # nothing was drawn yet
    next(iter(mix))
    with pytest.raises(ConfigurationError, match=r"shuffles with a generator of its own, 'rng'\. Give the sampler"):
        mix.state_dict()


def test_between_two_epochs():
    ended = mix_of(ORDERS["shuffle"])
    list(ended)
    again = mix_of(ORDERS["shuffle"])
    again.load_state_dict(ended.state_dict())
    assert len(list(again)) == 6
    assert again.epoch == 1


def test_what_an_order_depends_on():
    def describe(**options):
        return LoaderOrder(DataLoader(DATA, **options)).describe()

    assert describe() == "SequentialSampler() in BatchSampler()"
    assert LoaderOrder([1, 2]).describe() == ""
    assert describe(shuffle=True) == "RandomSampler() in BatchSampler(), global generators"
    batches = BatchSampler(RandomSampler(DATA, generator=torch.Generator()), 4, False)
    assert describe(batch_sampler=batches).endswith("BatchSampler() in RandomSampler(own generator)")
