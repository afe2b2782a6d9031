"""The sampling loop against diffusers' pipelines where those are right, and against formulas where they are not."""

from __future__ import annotations

import copy

import diffusers
import numpy as np
import pytest
import tiny_nets
import torch

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers import DiffusersSynthesizer
from torchgenaug.synthesizers.diffusion.sampling import prepare_schedule

SEEDS = [3, 1 << 63, 5]
SCHEDULERS = {
    "DDPM": lambda: diffusers.DDPMScheduler(),
    "DDIM": lambda: diffusers.DDIMScheduler(),
    "DDIM v": lambda: diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"),
    "DPM-Solver++": lambda: diffusers.DPMSolverMultistepScheduler(),
    "DPM-Solver++ SDE": lambda: diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
    "DPM-Solver++ Karras": lambda: diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True),
    "DPM-Solver single": lambda: diffusers.DPMSolverSinglestepScheduler(),
    "UniPC": lambda: diffusers.UniPCMultistepScheduler(),
    "PNDM": lambda: diffusers.PNDMScheduler(),
    "PLMS": lambda: diffusers.PNDMScheduler(skip_prk_steps=True),
    "DEIS": lambda: diffusers.DEISMultistepScheduler(),
    "Heun": lambda: diffusers.HeunDiscreteScheduler(),
    "LMS": lambda: diffusers.LMSDiscreteScheduler(),
    "Euler": lambda: diffusers.EulerDiscreteScheduler(),
    "Euler ancestral": lambda: diffusers.EulerAncestralDiscreteScheduler(),
    "KDPM2": lambda: diffusers.KDPM2DiscreteScheduler(),
    "KDPM2 ancestral": lambda: diffusers.KDPM2AncestralDiscreteScheduler(),
    "LCM": lambda: diffusers.LCMScheduler(),
    "TCD": lambda: diffusers.TCDScheduler(),
    "IPNDM": lambda: diffusers.IPNDMScheduler(),
    "SA-Solver": lambda: diffusers.SASolverScheduler(),
    "EDM Euler": lambda: diffusers.EDMEulerScheduler(),
    "EDM DPM": lambda: diffusers.EDMDPMSolverMultistepScheduler(),
    "Flow Euler": lambda: diffusers.FlowMatchEulerDiscreteScheduler(),
    "Flow Heun": lambda: diffusers.FlowMatchHeunDiscreteScheduler(),
}
# diffusers' KDPM2 schedulers hand tensors to numpy.cumsum.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
STOCHASTIC = {"DDPM", "DPM-Solver++ SDE", "Euler ancestral", "KDPM2 ancestral", "LCM", "TCD", "SA-Solver"}


def synthesizer(scheduler: object, steps: int = 4, **options: object) -> DiffusersSynthesizer:
    return DiffusersSynthesizer(tiny_nets.unet(), scheduler, steps=steps, value_range=(-1, 1), **options)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_gives_each_sample_from_its_own_seed(name):
    made = synthesizer(SCHEDULERS[name]())
    assert made._schedule.draws_noise == (name in STOCHASTIC)
    together = made.synthesize(SEEDS)["image"]
    assert together.isfinite().all()
    assert together.std() > 0.01
    torch.manual_seed(0)
    assert torch.equal(together, made.synthesize(SEEDS)["image"])
    for row, seed in enumerate(SEEDS):
        alone = made.synthesize([seed])["image"][0]
        assert (alone - together[row]).abs().max() <= 1e-4 * max(1, together.abs().max())


@pytest.mark.parametrize("name", sorted(STOCHASTIC))
def test_step_noise_differs_between_samples(name):
    """Two samples that start from the same noise part ways, or else the batch would share its step noise."""
    made = synthesizer(SCHEDULERS[name]())
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    from torchgenaug.synthesizers.diffusion.sampling import run_schedule

    with torch.no_grad():
        one, two = run_schedule(made._schedule, lambda x, t: made._predict(None, x, t), noise, [1, 2])
    assert (one - two).abs().max() > 1e-2


def test_ddim_agrees_with_the_pipeline(monkeypatch):
    from diffusers.pipelines.ddim import pipeline_ddim

    net, scheduler = tiny_nets.unet().eval(), diffusers.DDIMScheduler()
    noise = seeding.normal(seeding.derive(SEEDS, seeding.NOISE), (1, 8, 8))
    monkeypatch.setattr(pipeline_ddim, "randn_tensor", lambda *_, **__: noise.clone())
    pipeline = diffusers.DDIMPipeline(net, copy.deepcopy(scheduler))
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(batch_size=3, num_inference_steps=7, output_type="np").images.transpose(0, 3, 1, 2)
    made = DiffusersSynthesizer(net, scheduler, steps=7, value_range=(0, 1), clip=True).synthesize(SEEDS)["image"]
    assert expected.std() > 0.01
    np.testing.assert_allclose(made.numpy(), expected, atol=1e-4)


def test_ddpm_agrees_with_the_pipeline(monkeypatch):
    from diffusers.pipelines.ddpm import pipeline_ddpm

    net, scheduler = tiny_nets.unet().eval(), diffusers.DDPMScheduler()
    noise = seeding.normal(seeding.derive(SEEDS, seeding.NOISE), (1, 8, 8))
    monkeypatch.setattr(pipeline_ddpm, "randn_tensor", lambda *_, **__: noise.clone())
    pipeline = diffusers.DDPMPipeline(net, copy.deepcopy(scheduler))
    pipeline.set_progress_bar_config(disable=True)
    step_seeds = seeding.derive(SEEDS, seeding.STEP_NOISE).tolist()
    generators = [torch.Generator().manual_seed(seed) for seed in step_seeds]
    expected = pipeline(batch_size=3, generator=generators, num_inference_steps=7, output_type="np").images
    made = DiffusersSynthesizer(net, scheduler, steps=7, value_range=(0, 1), clip=True).synthesize(SEEDS)["image"]
    np.testing.assert_allclose(made.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-4)


def test_euler_agrees_with_the_formula():
    """Karras et al. (2022), algorithm 1 without churn, on the variance-preserving noise levels of the scheduler."""
    net, steps = tiny_nets.unet().eval(), 6
    betas = np.linspace(1e-4, 0.02, 1000)
    alphas = np.cumprod(1 - betas)
    times = np.linspace(0, 999, steps)[::-1]
    sigmas = np.append(np.interp(times, np.arange(1000), np.sqrt((1 - alphas) / alphas)), 0)
    x = seeding.normal(seeding.derive(SEEDS, seeding.NOISE), (1, 8, 8)) * sigmas[0]
    with torch.no_grad():
        for k in range(steps):
            time = torch.tensor(times[k], dtype=torch.float32)
            noise = net(x / np.sqrt(sigmas[k] ** 2 + 1), time, return_dict=False)[0]
            x = x + (sigmas[k + 1] - sigmas[k]) * noise
    scheduler = diffusers.EulerDiscreteScheduler(beta_start=1e-4, beta_end=0.02)
    made = DiffusersSynthesizer(net, scheduler, steps=steps, value_range=(-1, 1)).synthesize(SEEDS)["image"]
    assert (made - x).abs().max() <= 1e-4 * x.abs().max()


def test_flow_matching_agrees_with_the_formula():
    """dx/dσ = v(x, σ) by Euler's method from σ = 1 to 0 (Lipman et al., 2023), on the scheduler's own noise levels."""
    net = tiny_nets.unet().eval()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    made = DiffusersSynthesizer(net, scheduler, steps=5, value_range=(-1, 1))
    sigmas = made.scheduler.sigmas
    x = seeding.normal(seeding.derive(SEEDS, seeding.NOISE), (1, 8, 8))
    with torch.no_grad():
        for k in range(5):
            x = x + (sigmas[k + 1] - sigmas[k]) * net(x, sigmas[k] * 1000, return_dict=False)[0]
    assert sigmas[0] == 1
    assert (made.synthesize(SEEDS)["image"] - x).abs().max() <= 1e-4


def test_learned_variance():
    """Networks with twice the channels, as in Nichol and Dhariwal (2021)."""
    net = tiny_nets.unet(out_channels=2)
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range")
    made = DiffusersSynthesizer(net, scheduler, steps=3, value_range=(-1, 1), clip=True)
    assert made.synthesize([1])["image"].shape == (1, 1, 8, 8)


def test_a_used_scheduler_is_not_touched_and_its_state_does_not_matter():
    used = diffusers.DPMSolverMultistepScheduler()
    expected = synthesizer(used).synthesize(SEEDS)["image"]
    assert used.num_inference_steps is None
    used.set_timesteps(9)
    for time in used.timesteps[:4]:
        used.step(torch.ones(1, 1, 8, 8), time, torch.ones(1, 1, 8, 8))
    before = used.step_index
    assert torch.equal(synthesizer(used).synthesize(SEEDS)["image"], expected)
    assert used.step_index == before


class GlobalNoiseScheduler(diffusers.DDIMScheduler):
    def step(self, model_output, timestep, sample, return_dict=True):
        (result, *rest) = super().step(model_output, timestep, sample, return_dict=False)
        return (result + torch.randn_like(result), *rest)


class BrokenScheduler(diffusers.DDIMScheduler):
    def step(self, model_output, timestep, sample, return_dict=True):
        raise IndexError("list index out of range")


def test_schedulers_that_cannot_be_used_are_refused():
    with pytest.raises(ConfigurationError, match=r"`scheduler` must take its random numbers from a generator.*Use DPM"):
        synthesizer(GlobalNoiseScheduler())
    with pytest.raises(ConfigurationError, match=r"denoise in 4 steps, got BrokenScheduler.*IndexError.*from_config"):
        synthesizer(BrokenScheduler())
    with pytest.raises(ConfigurationError, match=r"denoise in 80 steps, got LCMScheduler.*Change `steps`"):
        synthesizer(diffusers.LCMScheduler(), steps=80)


def test_timesteps_follow_the_device_and_tables_stay_on_the_cpu():
    schedule = prepare_schedule(diffusers.DDIMScheduler(), 3, channels=1, out_channels=1, device=torch.device("meta"))
    assert schedule.timesteps.device.type == "meta"
    assert schedule.scheduler.timesteps.device.type == "cpu"
