from __future__ import annotations

import diffusers
import pytest
import tiny_nets
import torch

from torchgenaug import Compute, DiffusersSynthesizer, DiffusionSampler, ModuleSynthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.diffusion.sampler import checked_computing, checked_scheduler
from torchgenaug.synthesizers.parts.compute import Execution

CPU = torch.device("cpu")


def test_defaults_are_float32_where_the_network_is():
    network = torch.nn.Linear(2, 2, dtype=torch.float64, device="meta")
    assert checked_computing(network, Compute()) == (
        torch.device("meta"),
        torch.float32,
        Execution(),
    )


def test_frozen_networks_are_copies_that_stay_as_they_are():
    network = torch.nn.Conv2d(2, 2, 3)
    frozen = checked_computing(network, Compute("cpu", torch.float64, channels_last=True)).frozen(network)
    assert frozen.weight.dtype == torch.float64
    assert frozen.weight.is_contiguous(memory_format=torch.channels_last)
    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert network.weight.dtype == torch.float32
    assert network.weight.requires_grad


@pytest.mark.parametrize(("upcast", "dtype"), [(True, torch.float32), (False, torch.float16)])
def test_an_autoencoder_that_overflows_stays_in_float32(upcast, dtype):
    vae = tiny_nets.autoencoder(force_upcast=upcast)
    computing = checked_computing(vae, Compute(CPU, torch.float16))
    assert next(computing.frozen_vae(vae).parameters()).dtype == dtype


def test_a_solver_takes_the_place_of_the_scheduler():
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=10)
    assert checked_scheduler(scheduler, 10, None) is scheduler
    assert isinstance(checked_scheduler(scheduler, 5, "ddim"), diffusers.DDIMScheduler)
    with pytest.raises(ConfigurationError, match=r"`steps` must be an integer in \[1, 10\], got 11"):
        checked_scheduler(scheduler, 11, None)
    with pytest.raises(ConfigurationError, match="`scheduler` must be a scheduler of diffusers, got int"):
        checked_scheduler(7, 5, "ddim")


def made(**options):
    return DiffusersSynthesizer(tiny_nets.unet(), diffusers.DDIMScheduler(), value_range=(0, 1), **options)


def test_values_and_keywords_are_the_same_settings():
    keywords = made(steps=3, clip=True, dtype=torch.bfloat16)
    values = made(sampler=DiffusionSampler(steps=3, clip=True), compute=Compute(dtype=torch.bfloat16))
    assert keywords.fingerprint == values.fingerprint
    assert keywords.settings == values.settings


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"step": 3}, TypeError, r"unexpected keyword argument 'step'\. Did you mean 'steps'\?"),
        ({"sampler": 50}, TypeError, "`sampler` must be a DiffusionSampler, got int"),
        (
            {"sampler": DiffusionSampler(), "steps": 3},
            ConfigurationError,
            r"`steps` must be given once, got it as a keyword and in `sampler`\. Write sampler=",
        ),
        ({"compute": Compute(), "device": "cpu"}, ConfigurationError, "`device` must be given once"),
    ],
)
def test_wrong_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        made(**options)


def test_a_module_has_no_sampler():
    with pytest.raises(TypeError, match="unexpected keyword argument 'steps'"):
        ModuleSynthesizer(torch.nn.Identity(), latent_shape=(1, 2, 2), value_range=(0, 1), steps=3)
