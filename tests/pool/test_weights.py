"""Weights go to host memory while a pool has nothing to make, and are back when it has; the samples are the same."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn

from torchgenaug.errors import ConfigurationError, PoolError
from torchgenaug.pool import SyntheticPool
from torchgenaug.pool.making import weights
from torchgenaug.pool.making.supply import LocalSupply
from torchgenaug.pool.making.weights import Weights, weights_of
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.synthesizers import ModuleSynthesizer
from torchgenaug.testing import AnalyticSynthesizer


class Recording(AnalyticSynthesizer):
    """Claims to be on a device, and writes down what happens to it."""

    def __init__(self):
        super().__init__((4, 4))
        self.device, self.where, self.story = torch.device("meta"), "meta", []

    def to(self, device):
        self.where = str(device)
        self.story.append("back" if self.where == "meta" else "away")

    def synthesize(self, seeds, conditions=None):
        assert self.where == "meta", "used while its weights are away"
        self.story.append("make")
        return super().synthesize(seeds, conditions)


def generator():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    return ModuleSynthesizer(module, latent_shape=(4,), value_range=(-1, 1))


def pool_of(synthesizer, **options):
    options = {"refresh": 0.5, "batch_size": 4, "offload": True} | options
    return SyntheticPool(SyntheticSequence(synthesizer), 8, **options)


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_without_background_they_are_there_only_while_samples_are_made():
    model = Recording()
    with pool_of(model, background=False) as pool:
        pool.set_epoch(0)
        assert model.story == ["make", "make", "away"]
        pool.read(np.arange(8))
        pool.set_epoch(0)
        assert model.story == ["make", "make", "away"]
        pool.set_epoch(1)
        assert model.story == ["make", "make", "away", "back", "make", "away"]
    assert model.story[-1] == "back", "whoever uses the model next finds it"


def test_in_the_background_they_go_when_nothing_is_missing():
    model = Recording()
    with pool_of(model) as pool:
        for epoch in range(3):
            pool.set_epoch(epoch)
            wait_until(lambda makes=3 + epoch: model.story.count("make") == makes and model.story[-1] == "away")
        assert model.story == ["make"] * 3 + ["away"] + ["back", "make", "away"] * 2
    assert model.story[-1] == "back"


def test_pools_that_share_a_model_do_not_take_it_from_each_other():
    model = Recording()
    with pool_of(model, background=False) as one, pool_of(model, background=False) as other:
        assert weights_of(model) is weights_of(model)
        weights_of(model).take()  # as a third pool does that is at work
        one.set_epoch(0)
        other.set_epoch(0)
        assert "away" not in model.story
        weights_of(model).let_go()
        assert model.story[-1] == "away"
        one.set_epoch(1)
        assert model.story[-3:] == ["back", "make", "away"]


def test_rendered_samples_need_no_model(tmp_path):
    from torchgenaug.shards import render_shards

    model = Recording()
    render_shards(SyntheticSequence(model), tmp_path, 8, batch_size=4)
    model.story.clear()
    with pool_of(model, background=False, shards=tmp_path) as pool:
        pool.set_epoch(0)
        assert model.story == ["away"]
        pool.set_epoch(1)
        assert model.story == ["away", "back", "make", "away"]


@pytest.fixture
def everything_moves(monkeypatch):
    monkeypatch.setattr(weights, "on_accelerator", lambda tensor: True)


@pytest.mark.usefixtures("everything_moves")
def test_modules_come_back_as_they_were():
    synthesizer = generator()
    expected = synthesizer.synthesize([1, 2, 3])["image"]
    state = {name: value.clone() for name, value in synthesizer.module.state_dict().items()}
    parts = [*synthesizer.module.parameters(), *synthesizer.module.buffers()]
    here = [part.data_ptr() for part in parts]
    moved = Weights(synthesizer)
    for _ in range(2):
        moved.take()
        moved.let_go()
        assert all(part.data_ptr() != pointer for part, pointer in zip(parts, here, strict=True))
        away = [part.data_ptr() for part in parts]
        moved.take()
        assert all(part.data_ptr() != pointer for part, pointer in zip(parts, away, strict=True))
        assert torch.equal(synthesizer.synthesize([1, 2, 3])["image"], expected)
        assert all(torch.equal(value, state[name]) for name, value in synthesizer.module.state_dict().items())
        here = [part.data_ptr() for part in parts]
        moved.let_go()
    moved.restore()
    assert [part.data_ptr() for part in parts] != away


@pytest.mark.usefixtures("everything_moves")
@pytest.mark.parametrize("background", [True, False])
def test_the_samples_are_the_same(background):
    with pool_of(generator(), background=background) as pool, pool_of(generator(), offload=False) as plain:
        for epoch in (0, 1, 3):
            for each in (pool, plain):
                each.set_epoch(epoch)
            assert torch.equal(pool.read(np.arange(8))["image"], plain.read(np.arange(8))["image"])


def test_the_samples_of_a_process_are_the_same():
    with pool_of(generator(), background="process") as pool, pool_of(generator(), offload=False) as plain:
        for epoch in (0, 2):
            for each in (pool, plain):
                each.set_epoch(epoch)
            assert torch.equal(pool.read(np.arange(8))["image"], plain.read(np.arange(8))["image"])


@pytest.mark.usefixtures("everything_moves")
def test_modules_are_found_wherever_a_synthesizer_keeps_them():
    class Nested:
        __slots__ = ("parts",)

        def __init__(self):
            self.parts = {"inner": [generator()], "other": (nn.Linear(2, 2),)}

    class Outer(AnalyticSynthesizer):
        def __init__(self):
            super().__init__()
            self.nested = Nested()

    outer = Outer()
    parameter = outer.nested.parts["other"][0].weight
    before = parameter.data_ptr()
    moved = weights_of(outer)
    moved.take()
    moved.let_go()
    assert parameter.data_ptr() != before


def test_weights_that_cannot_be_found_are_named():
    for background in (True, "process"):
        with pytest.raises(ConfigurationError, match=r"has no torch\.nn\.Module among its attributes, nor a method to"):
            pool_of(AnalyticSynthesizer(), background=background)


def test_a_move_that_fails_is_told_and_tried_again():
    class Stuck(Recording):
        failures = 1

        def to(self, device):
            if str(device) == "cpu" and self.failures:
                self.failures -= 1
                raise RuntimeError("the host is full")
            super().to(device)

    with pool_of(Stuck(), background=False) as pool:
        with pytest.raises(
            PoolError, match="could not give back the memory of its model: RuntimeError: the host is full"
        ):
            pool.set_epoch(0)
        pool.set_epoch(0)
        assert len(pool.read(np.arange(8))["image"]) == 8


@pytest.mark.gpu
@pytest.mark.parametrize("background", [True, "process"])
def test_on_a_gpu_the_memory_is_given_back(background):
    # 336 MiB: large against the 32 MiB of workspace that cuBLAS takes for each stream on a Hopper GPU.
    big = nn.Sequential(nn.Linear(4, 1 << 22), nn.Linear(1 << 22, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    synthesizer = ModuleSynthesizer(big, latent_shape=(4,), value_range=(-1, 1), device="cuda")
    free = torch.cuda.memory_allocated()
    with pool_of(synthesizer, background=background) as pool, pool_of(synthesizer, background=False) as plain:
        for epoch in (0, 2):
            pool.set_epoch(epoch)
            plain.set_epoch(epoch)
            assert torch.equal(pool.read(np.arange(8))["image"], plain.read(np.arange(8))["image"])
        if background is True:
            wait_until(lambda: torch.cuda.memory_allocated() < free - (200 << 20))


@pytest.mark.parametrize("background", [True, False])
def test_a_closed_pool_does_not_count_as_a_user(background):
    """Closed while it had the weights: the next pool on the same model still sends them away."""
    model = Recording()
    first = pool_of(model, background=background, offload=True)
    first._filler._supply._take()
    first.close()
    assert model.where == "meta"
    with pool_of(model, background=False) as second:
        second.set_epoch(0)
        assert model.where == "cpu"
    first._filler = None
    assert model.where == "meta"


def test_a_closed_supply_moves_nothing():
    model = Recording()
    supply = LocalSupply(SyntheticSequence(model), offload=True)
    supply.batch(np.arange(4))
    supply.rest()
    assert model.where == "cpu"
    supply.close()
    supply.rest()
    assert model.where == "meta", "the thread may come late to its rest"
    with pytest.raises(PoolError, match="was closed"):
        supply.batch(np.arange(4))
