"""A cap on the memory of a pool's process: the model gets errors instead of memory, and fewer samples at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.pool import SyntheticPool
from torchgenaug.pool.making import limit
from torchgenaug.pool.making.limit import apply_limit, checked_limit, private_bytes
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer

MIB = 1 << 20


class Hungry(AnalyticSynthesizer):
    """Takes 64 MiB per sample while it works, and `weights_mib` always."""

    def __init__(self, weights_mib=0):
        super().__init__((4, 4))
        self.weights_mib = weights_mib

    def synthesize(self, seeds, conditions=None):
        torch.zeros(len(seeds), 64 * MIB, dtype=torch.uint8)
        return super().synthesize(seeds, conditions)


def hungry():
    return SyntheticSequence(Hungry())


def heavy():
    model = Hungry()
    model.weights = torch.ones(200 * MIB, dtype=torch.uint8)
    return SyntheticSequence(model)


def test_a_model_that_asks_for_more_is_given_fewer_samples():
    with (
        SyntheticPool(hungry, 8, batch_size=8, background="process", memory_limit=300 * MIB) as pool,
        SyntheticPool(hungry(), 8, batch_size=8, background=False) as plain,
    ):
        pool.set_epoch(0)
        plain.set_epoch(0)
        assert pool.stats.call_size in (1, 2, 4)
        assert pool.stats.memory_failures >= 1
        assert torch.equal(pool.read(np.arange(8))["image"], plain.read(np.arange(8))["image"])


def test_a_model_that_alone_takes_more_is_named():
    with pytest.raises(ConfigurationError, match=r"must have room for the model, which takes 2\d\d,\d{3},\d{3} bytes"):
        SyntheticPool(heavy, 8, background="process", memory_limit=100 * MIB)


def test_a_fraction_is_of_what_is_free(monkeypatch):
    import resource

    caps = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: caps.append((which, pair[0])))
    monkeypatch.setattr(limit, "available_bytes", lambda: 1000 * MIB)
    monkeypatch.setattr(limit, "private_bytes", lambda: 700 * MIB)
    apply_limit(0.5, torch.device("cpu"), 500 * MIB)
    apply_limit(300 * MIB, torch.device("cpu"), 500 * MIB)
    assert caps == [(resource.RLIMIT_DATA, 1100 * MIB), (resource.RLIMIT_DATA, 800 * MIB)]
    with pytest.raises(ConfigurationError, match="takes 209,715,200 bytes before it makes anything, got 125,8"):
        apply_limit(0.1, torch.device("cpu"), 500 * MIB)
    with pytest.raises(ConfigurationError, match="cannot be capped"):
        apply_limit(0.5, torch.device("meta"), 500 * MIB)
    with pytest.raises(ConfigurationError, match="cannot be capped"):
        apply_limit(0.5, torch.device("cpu"), 0)


def test_private_memory_is_measured():
    before = private_bytes()
    block = torch.ones(100 * MIB, dtype=torch.uint8)
    assert 90 * MIB < private_bytes() - before < 200 * MIB
    del block


@pytest.mark.parametrize("value", [0, 1, -1, 0.0, 1.5, float("nan"), True, "half"])
def test_limits_outside_their_domain(value):
    with pytest.raises(ConfigurationError, match=r"`memory_limit` must be a fraction in \(0\.0, 1\.0\], or a number"):
        checked_limit(value, in_process=True)


@pytest.mark.parametrize("background", [True, False])
def test_a_thread_has_no_memory_of_its_own(background):
    with pytest.raises(ConfigurationError, match=r"must be None unless background='process', got 0\.5"):
        SyntheticPool(hungry(), 8, background=background, memory_limit=0.5)


@pytest.mark.gpu
def test_on_a_gpu_the_cap_is_torchs():
    from torch import nn

    from torchgenaug.synthesizers import ModuleSynthesizer

    module = nn.Sequential(nn.Linear(4, 1 << 18), nn.Linear(1 << 18, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    synthesizer = ModuleSynthesizer(module, latent_shape=(4,), value_range=(-1, 1), device="cuda")
    options = {"batch_size": 512, "background": "process", "memory_limit": 256 * MIB}
    with SyntheticPool(SyntheticSequence(synthesizer), 512, **options) as pool:
        pool.set_epoch(0)
        assert pool.stats.call_size < 512
