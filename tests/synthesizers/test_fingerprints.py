from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from torchgenaug.synthesizers.parts.fingerprints import component_description, settings_digest, weights_digest


class Scheduler:
    def __init__(self, betas=None, steps=10):
        self.config = {"betas": betas, "steps": steps, "_name_or_path": "x"}


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net[0].weight.data.mul_(1 + 1e-6),
        lambda net: net[1].running_mean.add_(1e-6),
        lambda net: net[0].register_buffer("hidden", torch.zeros(1), persistent=False),
        lambda net: net.to(torch.bfloat16),
        lambda net: setattr(net[0], "weight", torch.nn.Parameter(net[0].weight.data.reshape(3, 2).clone())),
    ],
)
def test_weights_digest_sees_every_change(change):
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    other = copy.deepcopy(net)
    assert weights_digest(net) == weights_digest(other)
    change(other)
    assert weights_digest(net) != weights_digest(other)


def test_weights_digest_does_not_see_memory_layout():
    net = torch.nn.Conv2d(4, 4, 3)
    assert weights_digest(copy.deepcopy(net).to(memory_format=torch.channels_last)) == weights_digest(net)


def test_descriptions_hold_what_differs_from_the_defaults():
    assert component_description(Scheduler()) == {"class": "Scheduler", "config": {}}
    assert component_description(Scheduler(np.array([0.5]), 3))["config"] == {"betas": [0.5], "steps": 3}
    assert component_description(Scheduler(torch.tensor([0.5])))["config"] == {"betas": [0.5]}


def test_settings_digest_does_not_depend_on_the_order():
    assert settings_digest({"a": 1, "b": (2, 3)}) == settings_digest({"b": [2, 3], "a": 1})
    assert settings_digest({"a": 1}) != settings_digest({"a": 2})
