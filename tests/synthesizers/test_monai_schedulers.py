from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("monai")
from diffusers import DDIMScheduler as OfDiffusers
from monai.networks import schedulers

from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.synthesizers.monai.schedulers import SCHEDULERS, described, rebuilt


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_description_gives_the_scheduler_back(name):
    scheduler = getattr(schedulers, name)(num_train_timesteps=12)
    description, tables = described(scheduler)
    again, tables_again = described(rebuilt(json.loads(json.dumps(description)), tables))
    assert again == description
    assert list(tables_again) == list(tables)
    assert all(torch.equal(tables[key], tables_again[key]) for key in tables)


def test_what_was_changed_after_construction_counts():
    scheduler = schedulers.DDIMScheduler(12, schedule="cosine", clip_sample_max=2.0)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod * 0.9
    again = rebuilt(*described(scheduler))
    assert torch.equal(again.alphas_cumprod, scheduler.alphas_cumprod)
    assert again.clip_sample_values == [-1.0, 2.0]


def test_the_given_one_is_left_alone():
    scheduler = schedulers.DDIMScheduler(12)
    described(scheduler)[1]["betas"].zero_()
    assert scheduler.betas.max() > 0
    assert len(scheduler.timesteps) == 12


class Mine(schedulers.DDIMScheduler):
    pass


@pytest.mark.parametrize("scheduler", [OfDiffusers(), Mine(10), None])
def test_other_schedulers_are_refused(scheduler):
    with pytest.raises(ConfigurationError, match=r"`scheduler` must be one of monai\.networks\.schedulers'"):
        described(scheduler)


@pytest.mark.parametrize(
    "change", [{"class": "Foreign"}, {"class": ["DDIMScheduler"]}, {"forward": 1}, {"num_train_timesteps": None}]
)
def test_foreign_descriptions_are_refused(change):
    description, tables = described(schedulers.DDIMScheduler(10))
    with pytest.raises(SynthesizerLoadError, match="`scheduler` must"):
        rebuilt({**description, **change}, tables)
    with pytest.raises(SynthesizerLoadError, match="with the tables"):
        rebuilt(description, {**tables, "state": torch.zeros(1)})
