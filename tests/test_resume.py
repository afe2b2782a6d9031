"""Law 3: restored at any step of a run of two epochs, what remains is equal, random transforms included."""

from __future__ import annotations

import copy
import itertools
from functools import partial

import numpy as np
import pytest
import torch
import torchio as tio
from accelerate import Accelerator, DataLoaderConfiguration
from by_epoch import ByEpoch, gradients
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from torchgenaug.errors import ConfigurationError, StateMismatchError
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.mixing.loader import SyntheticMixLoader
from torchgenaug.plan import batch_plan, mix_plan
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

# torchdata 0.11 calls what torch 2.13 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

SIDE, SIZE, EPOCHS = 6, 10, 2
SEQUENCE = SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE)))
MOVE = tio.RandomAffine(
    scales=(0.9, 1.1, 0.9, 1.1, 1, 1), degrees=(0, 0, 0, 0, -20, 20), translation=(-1, 1, -1, 1, 0, 0)
)
IMAGES = gradients(SIZE, SIDE)


def noisy(batch):
    return [batch[0] + 0.1 * torch.rand(()) + 0.1 * float(np.random.rand())]


def loader_of(kind):
    images = TensorDataset(IMAGES)
    match kind:
        case "list":
            return [[part] for part in IMAGES.split(4)]
        case "plain":
            return DataLoader(images, 4)
        case "plain, sampler by epoch":
            return DataLoader(images, 4, sampler=ByEpoch(SIZE))
        case "plain, generator":
            return DataLoader(images, 4, shuffle=True, generator=torch.Generator().manual_seed(5))
        case "plain, generator of the sampler":
            sampler = RandomSampler(images, replacement=True, generator=torch.Generator().manual_seed(5))
            return DataLoader(images, batch_sampler=BatchSampler(sampler, 4, False))
        case "stateful":
            return StatefulDataLoader(images, 4)
        case "stateful, generator":
            return StatefulDataLoader(images, 4, shuffle=True, generator=torch.Generator().manual_seed(5))
        case "stateful, sampler":
            sampler = RandomSampler(images, generator=torch.Generator().manual_seed(5))
            return StatefulDataLoader(images, 4, sampler=sampler)
        case "stateful, batch sampler":
            sampler = RandomSampler(images, replacement=True, generator=torch.Generator().manual_seed(5))
            return StatefulDataLoader(images, batch_sampler=BatchSampler(sampler, 4, False))
        case "stateful, worker":
            return StatefulDataLoader(
                images, 4, shuffle=True, generator=torch.Generator().manual_seed(5), num_workers=1
            )


KINDS = [
    "list",
    "plain",
    "plain, sampler by epoch",
    "plain, generator",
    "plain, generator of the sampler",
    "stateful",
    "stateful, generator",
    "stateful, sampler",
    "stateful, batch sampler",
]


def mix_of(kind, **options):
    options = {"ratio": 0.3, "transform": noisy, "fields": ["image"], "mode": "extend"} | options
    return SyntheticMixLoader(loader_of(kind), InMemorySource(SEQUENCE, 7), **options)


def run(mix, start=0, *, sets_epoch, saves=True):
    """Batches, flags, and the state after each batch, the states between epochs included."""
    seen, states = [], [(start, 0, mix.state_dict())] if saves else []
    for epoch in range(start, EPOCHS):
        if sets_epoch:
            mix.set_epoch(epoch)
        for batch in mix:
            seen.append((epoch, batch[0].clone(), mix.is_synthetic))
            if saves:
                states.append((epoch, len(seen), copy.deepcopy(mix.state_dict())))
        if saves:
            states.append((epoch + 1, len(seen), copy.deepcopy(mix.state_dict())))
    return seen, states


def assert_equal_runs(there, here):
    assert len(there) == len(here)
    for (epoch, batch, flags), (other_epoch, other, other_flags) in zip(there, here, strict=True):
        assert epoch == other_epoch
        assert torch.equal(batch, other)
        assert torch.equal(flags, other_flags)


@pytest.mark.parametrize("sets_epoch", [True, False])
@pytest.mark.parametrize("mode", ["replace", "extend"])
@pytest.mark.parametrize("kind", KINDS)
def test_loader_restored_at_every_step(kind, mode, sets_epoch):
    whole, states = run(mix_of(kind, mode=mode), sets_epoch=sets_epoch)
    assert not torch.equal(whole[0][1], whole[3][1])
    for start, done, state in states:
        again = mix_of(kind, mode=mode)
        again.load_state_dict(state)
        remainder, _ = run(again, start, sets_epoch=sets_epoch, saves=False)
        assert_equal_runs(whole[done:], remainder)


def test_loader_restored_at_every_step_with_a_worker():
    whole, states = run(mix_of("stateful, worker"), sets_epoch=True)
    for start, done, state in states[1::2]:
        again = mix_of("stateful, worker")
        again.load_state_dict(state)
        assert_equal_runs(whole[done:], run(again, start, sets_epoch=True, saves=False)[0])


@pytest.mark.parametrize("kind", ["plain, generator", "stateful, generator", "plain, sampler by epoch"])
def test_an_epoch_that_is_given_up_does_not_change_the_next(kind):
    whole, states = run(mix_of(kind), sets_epoch=True)
    for _, done, state in states[1:4]:
        again = mix_of(kind)
        again.load_state_dict(state)
        again.set_epoch(1)
        assert_equal_runs(whole[3:], [(1, batch[0].clone(), again.is_synthetic) for batch in again])
        assert 1 <= done <= 3


def test_a_restored_state_can_be_saved_again():
    for kind in ("plain, generator", "stateful, generator"):
        whole, states = run(mix_of(kind), sets_epoch=True)
        start, done, state = states[2]
        middle = mix_of(kind)
        middle.load_state_dict(state)
        again = mix_of(kind)
        again.load_state_dict(copy.deepcopy(middle.state_dict()))
        assert_equal_runs(whole[done:], run(again, start, sets_epoch=True, saves=False)[0])


def test_a_pool_is_restored_too():
    def mix():
        pool = SyntheticPool(SEQUENCE, 6, refresh=0.5, batch_size=3, background=False)
        return SyntheticMixLoader(loader_of("stateful"), pool, 0.5, fields=["image"], transform=noisy)

    whole, states = run(mix(), sets_epoch=True)
    for start, done, state in states:
        again = mix()
        again.load_state_dict(state)
        assert_equal_runs(whole[done:], run(again, start, sets_epoch=True, saves=False)[0])


def test_every_difference_of_the_loader_is_listed():
    state = mix_of("plain").state_dict()
    other = SyntheticMixLoader(
        DataLoader(TensorDataset(IMAGES[:6]), 3),
        InMemorySource(SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE)), seed=1), 8),
        0.4,
        mode="replace",
        seed=2,
        fields=["image"],
    )
    with pytest.raises(StateMismatchError) as caught:
        other.load_state_dict(state)
    message = str(caught.value)
    for name in ("seed", "mode", "ratio", "num_synthetic", "fingerprint", "batch_size", "num_batches", "epoch_size"):
        assert f"- {name}: saved" in message
    with pytest.raises(StateMismatchError, match="stateful_loader: saved False, now True"):
        mix_of("stateful").load_state_dict(state)
    with pytest.raises(StateMismatchError, match="batch: missing"):
        mix_of("plain").load_state_dict({name: value for name, value in state.items() if name != "batch"})


def half(epoch):
    return 0.5


def ramp(epoch, most):
    return min(most, 0.1 * epoch)


@pytest.mark.parametrize("build", [SyntheticMixLoader, SyntheticMixDataset])
@pytest.mark.parametrize(
    ("ratio", "other"),
    [(partial(ramp, most=0.3), partial(ramp, most=0.4)), (lambda epoch: 0.25, lambda epoch: 0.3), (half, 0.5)],
)
def test_another_function_of_the_same_name_is_another_ratio(build, ratio, other):
    def mix(ratio):
        real = loader_of("plain") if build is SyntheticMixLoader else TensorDataset(IMAGES)
        return build(real, InMemorySource(SEQUENCE, 7), ratio, fields=["image"])

    one = mix(ratio)
    one.set_epoch(5)
    state = one.state_dict()
    mix(ratio).load_state_dict(state)
    if build is SyntheticMixDataset and callable(other):
        # Its epochs are decided one by one and saved; a function may follow the training.
        with pytest.warns(UserWarning, match="where the saved run drew"):
            mix(other).load_state_dict(state)
        return
    with pytest.raises(StateMismatchError, match="ratio: saved"):
        mix(other).load_state_dict(state)


@pytest.mark.parametrize("build", [SyntheticMixLoader, SyntheticMixDataset])
def test_a_pool_of_another_pace_is_another_source(build):
    def mix(refresh):
        real = loader_of("plain") if build is SyntheticMixLoader else TensorDataset(IMAGES)
        return build(
            real, SyntheticPool(SEQUENCE, 6, refresh=refresh, batch_size=3, background=False), fields=["image"]
        )

    state = mix(0.5).state_dict()
    mix(0.45).load_state_dict(state)  # three of six, too
    with pytest.raises(StateMismatchError, match=r"refresh: saved 0\.5, now 0\.6"):
        mix(0.7).load_state_dict(state)


def test_a_loader_that_became_shorter():
    long, short = ([[part] for part in IMAGES.split(4)], [[IMAGES[:4]]])

    class Unsized:
        def __init__(self, batches):
            self.batches = batches

        def __iter__(self):
            return iter(self.batches)

    mix = SyntheticMixLoader(Unsized(long), InMemorySource(SEQUENCE, 7), fields=["image"])
    state = [mix.state_dict() for _ in mix][1]
    other = SyntheticMixLoader(Unsized(short), InMemorySource(SEQUENCE, 7), fields=["image"])
    other.load_state_dict(state)
    with pytest.raises(StateMismatchError, match="at least 2 batches, got one with 1"):
        list(other)


def dataset_of(pool=None, **options):
    source = InMemorySource(SEQUENCE, 7) if pool is None else pool
    options = {"ratio": 0.3, "mode": "extend", "fields": ["image"], "transform": MOVE} | options
    return SyntheticMixDataset(TensorDataset(IMAGES), source, **options)


def stateful(dataset, workers=0):
    # Without `generator`: torchdata 0.11 does not restore the order of the next epoch when it is given one.
    return StatefulDataLoader(dataset, 4, shuffle=True, num_workers=workers)


def run_dataset(dataset, loader, start=0, *, saves=True):
    seen, states = [], []
    for epoch in range(start, EPOCHS):
        dataset.set_epoch(epoch)
        for batch in loader:
            seen.append((epoch, batch[0], torch.zeros(0)))
            if saves:
                states.append((epoch, len(seen), copy.deepcopy(loader.state_dict())))
        if saves:
            states.append((epoch + 1, len(seen), copy.deepcopy(loader.state_dict())))
    return seen, states


@pytest.mark.parametrize("workers", [0, 1])
def test_dataset_restored_at_every_step_under_a_stateful_loader(workers):
    dataset = dataset_of()
    whole, states = run_dataset(dataset, stateful(dataset, workers))
    assert not torch.equal(whole[0][1], whole[4][1])
    for start, done, state in states if not workers else states[1::3]:
        again = dataset_of()
        loader = stateful(again, workers)
        loader.load_state_dict(state)
        assert_equal_runs(whole[done:], run_dataset(again, loader, start, saves=False)[0])


def test_dataset_restored_without_set_epoch_goes_to_the_epoch_of_the_state():
    dataset = dataset_of()
    whole, states = run_dataset(dataset, stateful(dataset))
    _, done, state = states[5]
    again = dataset_of()
    loader = stateful(again)
    loader.load_state_dict(state)
    remainder = [(1, batch[0], torch.zeros(0)) for batch in loader]
    assert_equal_runs(whole[done:], remainder)
    assert again.epoch == 1


def test_dataset_goes_back_to_a_saved_epoch_after_it_was_read():
    dataset = dataset_of()
    state = dataset.state_dict()
    dataset.set_epoch(3)
    _ = dataset[0]
    dataset.load_state_dict(state)
    assert dataset.epoch == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_dataset_over_a_pool_restored_under_a_stateful_loader(workers):
    with SyntheticPool(SEQUENCE, 6, refresh=0.5, batch_size=3, background=False) as pool:
        dataset = dataset_of(pool)
        whole, states = run_dataset(dataset, stateful(dataset, workers))
    for start, done, state in states[1::3] if workers else states:
        with SyntheticPool(SEQUENCE, 6, refresh=0.5, batch_size=3, background=False) as pool:
            again = dataset_of(pool)
            loader = stateful(again, workers)
            loader.load_state_dict(state)
            assert_equal_runs(whole[done:], run_dataset(again, loader, start, saves=False)[0])


def test_dataset_of_another_ratio_is_refused_under_a_stateful_loader():
    dataset = dataset_of()
    loader = stateful(dataset)
    next(iter(loader))
    other = stateful(dataset_of(ratio=0.4))
    other.load_state_dict(loader.state_dict())
    with pytest.raises(StateMismatchError, match=r"ratio: saved 0\.3, now 0\.4"):
        next(iter(other))


def test_dataset_restored_at_every_step_under_a_plain_loader():
    """What a skipped start and an order by epoch give: every sample is a function of (seed, epoch, index)."""

    class Skipping(ByEpoch):
        skipped = 0

        def __iter__(self):
            return itertools.islice(super().__iter__(), self.skipped, None)

    def batches(dataset, sampler):
        return [batch[0] for batch in DataLoader(dataset, 2, sampler=sampler)]

    dataset, sampler = dataset_of(mode="replace"), Skipping(SIZE)
    for epoch in range(EPOCHS):
        dataset.set_epoch(epoch)
        sampler.set_epoch(epoch)
        whole, state = batches(dataset, sampler), dataset.state_dict()
        for step in range(5):
            again, other = dataset_of(mode="replace"), Skipping(SIZE)
            again.load_state_dict(state)
            other.set_epoch(again.epoch)
            other.skipped = 2 * step
            assert all(torch.equal(a, b) for a, b in zip(batches(again, other), whole[step:], strict=True))


def test_loader_of_accelerate_restored_at_every_step():
    def mix(**options):
        accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**options))
        loader = accelerator.prepare(loader_of("plain, generator"))
        return SyntheticMixLoader(loader, InMemorySource(SEQUENCE, 7), 0.3, fields=["image"], transform=noisy)

    assert isinstance(Accelerator(cpu=True).prepare(mix()), SyntheticMixLoader)
    whole, states = run(mix(), sets_epoch=True)
    for start, done, state in states:
        again = mix()
        again.load_state_dict(state)
        assert_equal_runs(whole[done:], run(again, start, sets_epoch=True, saves=False)[0])
    with pytest.raises(ConfigurationError, match="got a stateful loader of accelerate"):
        mix(use_stateful_dataloader=True).load_state_dict(states[4][2])


@pytest.mark.parametrize("build", [dataset_of, partial(mix_of, "plain")])
def test_a_state_of_the_former_order_of_large_sets_is_refused(build, monkeypatch):
    for module in (mix_plan, batch_plan):
        monkeypatch.setattr(module, "MOST_SHUFFLED", 4)
    mix = build()
    state = mix.state_dict()
    mix.load_state_dict(state)
    del state["large_sets"]
    with pytest.raises(StateMismatchError, match="large_sets: saved None, now 2"):
        mix.load_state_dict(state)
