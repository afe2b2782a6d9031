from __future__ import annotations

import diffusers
import pytest
import tiny_nets
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.diffusion.sampler import checked_computing, checked_scheduler
from torchgenaug.synthesizers.parts.compute import Execution

CPU = torch.device("cpu")


def test_defaults_are_float32_where_the_network_is():
    network = torch.nn.Linear(2, 2, dtype=torch.float64, device="meta")
    assert checked_computing(network, None, None, None, False, False) == (
        torch.device("meta"),
        torch.float32,
        Execution(),
    )


def test_frozen_networks_are_copies_that_stay_as_they_are():
    network = torch.nn.Conv2d(2, 2, 3)
    frozen = checked_computing(network, "cpu", torch.float64, True, False, False).frozen(network)
    assert frozen.weight.dtype == torch.float64
    assert frozen.weight.is_contiguous(memory_format=torch.channels_last)
    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert network.weight.dtype == torch.float32
    assert network.weight.requires_grad


@pytest.mark.parametrize(("upcast", "dtype"), [(True, torch.float32), (False, torch.float16)])
def test_an_autoencoder_that_overflows_stays_in_float32(upcast, dtype):
    vae = tiny_nets.autoencoder(force_upcast=upcast)
    computing = checked_computing(vae, CPU, torch.float16, None, False, False)
    assert next(computing.frozen_vae(vae).parameters()).dtype == dtype


def test_a_solver_takes_the_place_of_the_scheduler():
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=10)
    assert checked_scheduler(scheduler, 10, None) is scheduler
    assert isinstance(checked_scheduler(scheduler, 5, "ddim"), diffusers.DDIMScheduler)
    with pytest.raises(ConfigurationError, match=r"`steps` must be an integer in \[1, 10\], got 11"):
        checked_scheduler(scheduler, 11, None)
    with pytest.raises(ConfigurationError, match="`scheduler` must be a scheduler of diffusers, got int"):
        checked_scheduler(7, 5, "ddim")
