"""The epoch of a mix moves with each pass where the trainer says nothing, in any process; `set_epoch` overrules it."""

from __future__ import annotations

import itertools
import pickle
import re
import time
import traceback

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from by_epoch import ByEpoch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    random_split,
)
from torchdata.stateful_dataloader import StatefulDataLoader

from torchgenaug.errors import ConfigurationError, RepeatedEpochWarning, StateMismatchError
from torchgenaug.mixing.dataset import epoch_clock
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

# torchdata 0.11 calls what torch 2.13 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

SIZE, BATCH, PASSES = 12, 5, 4
SEQUENCE = SyntheticSequence(AnalyticSynthesizer((4, 4)))


class Epochs:
    """A real set that hands out its own epoch, as one with epoch-dependent augmentation does."""

    def __init__(self, size=SIZE):
        self.size, self.epoch = size, 0

    def __len__(self):
        return self.size

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, index):
        return {"image": torch.full((1, 4, 4), index / SIZE), "epoch": self.epoch}


def mix_of(synthetic=None, ratio=0.5, **options):
    source = InMemorySource(SEQUENCE, 7) if synthetic is None else synthetic
    options = {"fields": ["image"], "provenance": True} | options
    return SyntheticMixDataset(Epochs(), source, ratio, **options)


def ids(batch):
    return batch["provenance"]["id"].tolist()


def expected(mix, indices, epoch):
    copy = pickle.loads(pickle.dumps(mix))
    copy.set_epoch(epoch)
    return [copy[index]["provenance"]["id"] for index in indices]


SAMPLERS = {
    "in order": lambda mix: {},
    "shuffled": lambda mix: {"shuffle": True},
    "shuffled, incomplete batch dropped": lambda mix: {"shuffle": True, "drop_last": True},
    "with replacement": lambda mix: {"sampler": RandomSampler(mix, replacement=True, num_samples=20)},
    "weighted": lambda mix: {"sampler": WeightedRandomSampler([1.0, 9.0] * 6, 12)},
    "subset": lambda mix: {"sampler": SubsetRandomSampler(range(3, 11))},
    "own": lambda mix: {"sampler": ByEpoch(SIZE)},
    "own batches": lambda mix: {"batch_sampler": BatchSampler(ByEpoch(SIZE), 5, False)},
    "one rank of two": lambda mix: {"sampler": DistributedSampler(mix, 2, 1)},
}
WORKERS = {
    "no worker": {},
    "forked": {"num_workers": 2},
    "persistent": {"num_workers": 2, "persistent_workers": True},
}


class Indexed:
    """Notes which indices a sampler hands out, in order."""

    def __init__(self, mix):
        self.mix = mix

    def __len__(self):
        return len(self.mix)

    def __getitems__(self, indices):
        return [{"index": i, **s} for i, s in zip(indices, self.mix.__getitems__(indices), strict=True)]

    def __getitem__(self, index):
        return self.__getitems__([index])[0]


def assert_passes_are_epochs(mix, loader, first=0, passes=PASSES):
    for epoch in range(first, first + passes):
        indices, found = [], []
        for batch in loader:
            indices += batch["index"].tolist()
            found += ids(batch)
        assert mix.epoch == epoch
        assert found == expected(mix, indices, epoch)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_pass_is_the_next_epoch(sampler, workers):
    if workers == "forked" and sampler not in ("shuffled", "weighted", "one rank of two"):
        pytest.skip("new processes for each pass take long; these three show it")
    mix = mix_of()
    order = SAMPLERS[sampler](mix)
    size = {} if "batch_sampler" in order else {"batch_size": BATCH}
    assert_passes_are_epochs(mix, DataLoader(Indexed(mix), **size, **order, **WORKERS[workers]))


@pytest.mark.parametrize("loader", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_of_the_mix_itself(loader, shuffle):
    mix = mix_of()
    passes = DataLoader(mix, BATCH, shuffle=shuffle) if loader is DataLoader else loader(mix, BATCH, shuffle=shuffle)
    seen = []
    for epoch in range(PASSES):
        seen.append([number for batch in passes for number in ids(batch)])
        assert mix.epoch == epoch
    assert len({tuple(numbers) for numbers in seen}) == PASSES


def test_the_constant_seed_of_a_loop_changes_nothing():
    """Workers of each pass then have the same seeds: they must be told apart otherwise."""
    mix = mix_of()
    loader = DataLoader(Indexed(mix), BATCH, sampler=WeightedRandomSampler([1.0] * SIZE, 12), num_workers=1)
    for epoch in range(3):
        torch.manual_seed(0)
        for batch in loader:
            assert ids(batch) == expected(mix, batch["index"].tolist(), epoch)


def test_wrappers_between_loader_and_mix():
    mix = mix_of()
    part, _ = random_split(mix, [8, 4])
    for epoch, loader in enumerate([DataLoader(part, 3, shuffle=True)] * 3):
        list(loader)
        assert mix.epoch == epoch
    one, other = mix_of(), mix_of(seed=1)
    loader = DataLoader(ConcatDataset([one, other]), 5, shuffle=True)
    for epoch in range(3):
        list(loader)
        assert (one.epoch, other.epoch) == (epoch, epoch)


def test_an_explicit_epoch_overrules_passes():
    mix = mix_of()
    loader = DataLoader(Indexed(mix), BATCH, shuffle=True)
    list(loader)
    list(loader)
    assert mix.epoch == 1
    mix.set_epoch(7)
    mix[0]  # a look at a sample is no pass
    assert_passes_are_epochs(mix, loader, first=7, passes=1)
    list(loader)
    assert mix.epoch == 7, "whoever sets the epoch sets each"


def test_looks_at_the_length_are_no_passes():
    mix = mix_of()
    loader = DataLoader(mix, BATCH, shuffle=True)
    for _ in loader:
        assert (len(mix), len(loader), len(loader.sampler)) == (12, 3, 12)
        assert mix.epoch == 0
    iter(loader)
    iter(loader)
    list(loader)
    assert mix.epoch == 1


def test_two_loaders_at_once_count_as_two_passes():
    mix = mix_of()
    sampler = ByEpoch(SIZE)
    pairs = zip(DataLoader(mix, 2, sampler=sampler), DataLoader(mix, 2, sampler=sampler), strict=True)
    assert len(list(pairs)) == 6
    assert mix.epoch == 1


def test_a_pass_by_hand_with_a_sampler():
    mix = mix_of()
    sampler = RandomSampler(mix)
    for epoch in range(3):
        order = list(sampler)
        assert [mix[index]["provenance"]["id"] for index in order] == expected(mix, order, epoch)


def test_a_sampler_with_an_epoch_names_that_of_the_mix():
    mix = mix_of()
    sampler = DistributedSampler(mix, 2, 0)
    loader = DataLoader(mix, BATCH, sampler=sampler)
    for epoch in [3, 4, 4, 9]:  # a run that goes on with epoch 3; a forgotten one; a jump
        sampler.set_epoch(epoch)
        list(loader)
    assert mix.epoch == 10, "3, 4, 5, and five further"
    again = mix_of()
    again.set_epoch(6)
    sampler = DistributedSampler(again, 2, 0)
    for epoch in [3, 4]:
        sampler.set_epoch(epoch)
        list(DataLoader(again, BATCH, sampler=sampler))
    assert again.epoch == 7, "6 was set explicitly; the sampler went one further"


def test_a_saved_state_goes_on_with_further_passes():
    mix = mix_of()
    for _ in range(3):
        list(DataLoader(mix, BATCH))
    again = mix_of()
    again.load_state_dict(mix.state_dict())
    assert_passes_are_epochs(again, DataLoader(Indexed(again), BATCH), first=3, passes=2)
    batches = iter(DataLoader(mix, BATCH))
    next(batches)
    again = mix_of()
    again.load_state_dict(mix.state_dict())
    assert_passes_are_epochs(again, DataLoader(Indexed(again), BATCH), first=3, passes=2)


@pytest.mark.parametrize("between", [False, True])
def test_a_stateful_loader_goes_on_at_the_end_of_an_epoch(between):
    mix = mix_of()
    loader = StatefulDataLoader(mix, BATCH, shuffle=True)
    for _ in range(2):
        list(loader)
    for _ in loader:
        state = loader.state_dict()
    if between:
        state = loader.state_dict()
    again = mix_of()
    loader = StatefulDataLoader(again, BATCH, shuffle=True)
    loader.load_state_dict(state)
    if not between:
        assert list(loader) == [], "the epoch that was over"
    list(loader)
    assert again.epoch == 3
    list(loader)
    assert again.epoch == 4


@pytest.mark.parametrize("seedable", [False, True])
@pytest.mark.parametrize("saved", [1, 2, 3])
def test_a_stateful_loader_of_accelerate_goes_on(seedable, saved):
    options = {"use_stateful_dataloader": True, "use_seedable_sampler": seedable}
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**options))
    mix = mix_of()
    loader = accelerator.prepare(DataLoader(mix, BATCH, shuffle=True))
    for epoch in range(3):
        for step, _ in enumerate(loader):
            if (epoch, step + 1) == (2, saved):
                state = mix.state_dict(), loader.state_dict()
    again = mix_of()
    loader = accelerator.prepare(DataLoader(again, BATCH, shuffle=True))
    again.load_state_dict(state[0])
    loader.load_state_dict(state[1])
    if saved < 3:  # else accelerate, which reads one batch ahead, has ended the pass
        assert (len(list(loader)), again.epoch) == (3 - saved, 2)
    for epoch in (3, 4):
        list(loader)
        assert again.epoch == epoch


def test_batches_that_workers_fetch_before_the_first_pass_are_no_pass():
    """accelerate begins the first pass of a stateful loader when it prepares it; how far workers are then is chance."""
    options = DataLoaderConfiguration(use_stateful_dataloader=True)
    mix = mix_of()
    loader = Accelerator(cpu=True, dataloader_config=options).prepare(DataLoader(mix, BATCH, num_workers=1))
    while not mix._clock._shared[1]:  # what workers have read
        time.sleep(0.01)
    for epoch in range(2):
        assert {mix.epoch for _ in loader} == {epoch}


@pytest.mark.parametrize("seedable", [False, True])
def test_a_stateful_loader_of_accelerate_goes_on_in_the_first_epoch_though_workers_fetched_before(seedable):
    options = DataLoaderConfiguration(use_stateful_dataloader=True, use_seedable_sampler=seedable)

    def build(pool):
        mix = mix_of(pool)
        loader = DataLoader(mix, BATCH, shuffle=True, num_workers=1)
        return mix, Accelerator(cpu=True, dataloader_config=options).prepare(loader)

    with SyntheticPool(SEQUENCE, 6, batch_size=3, background=False) as pool:
        mix, loader = build(pool)
        state = next(loader.state_dict() for _ in loader)
    with SyntheticPool(SEQUENCE, 6, batch_size=3, background=False) as pool:
        mix, loader = build(pool)
        while not mix._clock._shared[1]:  # what the worker has read
            time.sleep(0.01)
        loader.load_state_dict(state)
        for epoch in range(3):
            assert ({mix.epoch for _ in loader}, pool.epoch) == ({epoch}, epoch)


@pytest.mark.parametrize("options", [{}, {"use_seedable_sampler": True}, {"dispatch_batches": True}], ids=str)
@pytest.mark.parametrize("skipped", [1, 3])
def test_a_run_under_accelerate_goes_on_where_it_was_though_accelerate_counts_anew(options, skipped):
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**options))
    mix = mix_of()
    loader = accelerator.prepare(DataLoader(mix, BATCH, shuffle=True))
    for epoch in range(3):
        for step, _ in enumerate(loader):
            if (epoch, step + 1) == (2, skipped):
                state = mix.state_dict()
        assert mix.epoch == epoch
    again = mix_of()
    loader = accelerator.prepare(DataLoader(again, BATCH, shuffle=True))
    again.load_state_dict(state)
    if skipped < len(loader) or "dispatch_batches" not in options:  # accelerate fails where nothing is left to dispatch
        list(accelerator.skip_first_batches(loader, skipped))
        assert again.epoch == 2
        for epoch in (3, 4):
            list(loader)
            assert again.epoch == epoch
    loader.set_epoch(7)
    list(loader)
    if "use_seedable_sampler" not in options:
        assert again.epoch == 7, "the training loop has the last word"


@pytest.mark.parametrize("workers", ["no worker", "persistent"])
def test_a_stateful_loader_goes_on_in_the_middle_without_set_epoch(workers):
    def build():
        mix = mix_of()
        options = {"shuffle": True, "generator": torch.Generator().manual_seed(3), **WORKERS[workers]}
        return mix, StatefulDataLoader(mix, BATCH, **options)

    _, loader = build()
    whole = [ids(batch) for _ in range(PASSES) for batch in loader]
    _, loader = build()
    list(loader)
    list(itertools.islice(iter(loader), 1))
    state = loader.state_dict()
    again, loader = build()
    loader.load_state_dict(state)
    assert [ids(batch) for batch in loader] == whole[4:6]
    assert again.epoch == 1
    list(loader)
    assert again.epoch == 2


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_stateful_loader_with_workers_takes_a_pool_to_the_epoch_of_its_state(shuffle):
    """Workers restore the state of a mix, but cannot move a pool; the second has read nothing of epoch 1 at first."""

    def build(pool):
        options = {"shuffle": shuffle, "generator": torch.Generator().manual_seed(3), "num_workers": 2}
        return StatefulDataLoader(mix_of(pool), BATCH, **options)

    def pool_of():
        return SyntheticPool(SEQUENCE, 6, refresh=0.5, batch_size=3, background=False)

    whole, states = [], []
    with pool_of() as pool:
        loader = build(pool)
        for _ in range(3):
            for batch in loader:
                whole.append(ids(batch))
                states.append(loader.state_dict())
            states[-1] = loader.state_dict()  # the epoch is over
    for done in (4, 6):  # after the first batch of epoch 1, after its last
        with pool_of() as pool:
            loader = build(pool)
            loader.load_state_dict(states[done - 1])
            assert [ids(batch) for _ in range(3 - done // 3) for batch in loader] == whole[done:]
            assert pool.epoch == 2


def test_a_worker_that_was_in_the_epoch_before_takes_no_other_back(monkeypatch):
    clock = epoch_clock.EpochClock(0)
    monkeypatch.setattr(epoch_clock, "get_worker_info", lambda: object())
    for epoch in (5, 4):
        clock.restore(epoch, in_pass=False)
    assert clock.epoch == 5


def test_a_pool_that_no_sampler_takes_to_the_epoch_of_a_state_is_an_error_with_its_remedy():
    def build(pool):
        mix = mix_of(pool)
        return mix, StatefulDataLoader(mix, BATCH, sampler=ByEpoch(SIZE), num_workers=1)

    def pool_of():
        return SyntheticPool(SEQUENCE, 6, refresh=0.5, batch_size=3, background=False)

    with pool_of() as pool:
        mix, loader = build(pool)
        mix.set_epoch(1)
        state = next(loader.state_dict() for _ in loader)
    with pool_of() as pool:
        _, loader = build(pool)
        loader.load_state_dict(state)
        with pytest.raises(StateMismatchError, match=r"the epoch of the mix, 1, got 0") as caught:
            list(loader)
        traceback.clear_frames(caught.tb)
    advice = re.search(r"mixed\.set_epoch\(\d+\)", str(caught.value))[0]
    with pool_of() as pool:
        mix, loader = build(pool)
        loader.load_state_dict(state)
        eval(advice, {"mixed": mix})
        assert len(list(loader)) == 2


@pytest.mark.parametrize("workers", WORKERS)
def test_the_epoch_reaches_the_real_set_in_workers(workers):
    mix = SyntheticMixDataset(Epochs(), [], 0.0)
    loader = DataLoader(mix, BATCH, shuffle=True, **WORKERS[workers])
    for epoch in range(3):
        assert {int(e) for batch in loader for e in batch["epoch"]} == {epoch}


@pytest.mark.parametrize("workers", WORKERS)
def test_a_pool_moves_along(workers):
    with SyntheticPool(SEQUENCE, 6, refresh=0.5, batch_size=3, background=False) as pool:
        mix = mix_of(pool)
        loader = DataLoader(mix, BATCH, shuffle=True, **WORKERS[workers])
        for epoch in range(3):
            window = range(3 * epoch, 3 * epoch + 6)
            assert all(number in window for batch in loader for number in ids(batch) if number >= 0)
            assert (mix.epoch, pool.epoch) == (epoch, epoch)


def test_a_pool_that_nobody_can_move_is_noticed_in_the_second_pass():
    with SyntheticPool(SEQUENCE, 6, refresh=0.5, batch_size=3, background=False) as pool:
        mix = mix_of(pool)
        loader = DataLoader(mix, BATCH, sampler=WeightedRandomSampler([1.0] * SIZE, 12), num_workers=1)
        pool.read(torch.arange(6).numpy())
        list(loader)
        with pytest.raises(RepeatedEpochWarning, match="A worker cannot move a pool") as caught:
            list(loader)
        traceback.clear_frames(caught.tb)
        quiet = mix_of(pool)
        loader = DataLoader(quiet, BATCH, sampler=WeightedRandomSampler([1.0] * SIZE, 12), num_workers=1)
        for epoch in range(3):
            quiet.set_epoch(epoch)
            list(loader)
        assert pool.epoch == 2


def test_a_length_that_changes_with_the_epoch():
    mix = mix_of(ratio=ramp, mode="extend")
    loader = DataLoader(mix, 4, shuffle=True)
    assert [sum(len(ids(batch)) for batch in loader) for _ in range(3)] == [12, 24, 36]


def ramp(epoch):
    return epoch / (epoch + 1)


@pytest.mark.parametrize("epoch", [1 << 43, 1 << 62, (1 << 63) - 1])
def test_an_epoch_beyond_what_the_clock_holds_is_named(epoch):
    mix = mix_of()
    with pytest.raises(ConfigurationError, match=r"`epoch` must be below 2\^43, got \d+\. Count epochs from 0"):
        mix.set_epoch(epoch)
    assert mix.epoch == 0
    mix.set_epoch(epoch >> 21)
    assert mix.epoch == epoch >> 21
