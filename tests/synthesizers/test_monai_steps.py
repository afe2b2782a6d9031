from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("monai")
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, PNDMScheduler, RFlowScheduler

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.monai.schedulers import described, rebuilt
from torchgenaug.synthesizers.monai.steps import planned_steps, run_steps

NOISE = {"schedule": st.sampled_from(["linear_beta", "scaled_linear_beta", "sigmoid_beta", "cosine"])}
KIND = {"prediction_type": st.sampled_from(["epsilon", "sample", "v_prediction"])}
CLIP = {"clip_sample": st.booleans(), "clip_sample_max": st.sampled_from([1.0, 0.3])}
LEVELS = st.integers(1, 40)
SCHEDULERS = st.one_of(
    st.builds(
        DDPMScheduler, LEVELS, variance_type=st.sampled_from(["fixed_small", "fixed_large"]), **NOISE, **KIND, **CLIP
    ),
    st.builds(DDIMScheduler, LEVELS, set_alpha_to_one=st.booleans(), **NOISE, **KIND, **CLIP),
    st.builds(
        PNDMScheduler,
        LEVELS,
        skip_prk_steps=st.just(True),
        set_alpha_to_one=st.booleans(),
        prediction_type=st.sampled_from(["epsilon", "v_prediction"]),
        **NOISE,
    ),
    st.builds(
        RFlowScheduler,
        LEVELS,
        use_discrete_timesteps=st.booleans(),
        use_timestep_transform=st.booleans(),
        base_img_size_numel=st.just(64),
        spatial_dim=st.sampled_from([2, 3]),
        sample_method=st.sampled_from(["uniform", "logit-normal"]),
    ),
)


def sampled(scheduler, steps, output_of, start, numel=64, seed=5):
    """With MONAI's own `step`, as its inferer loops over it."""
    if isinstance(scheduler, RFlowScheduler):
        scheduler.set_timesteps(steps, input_img_size_numel=numel)
    else:
        scheduler.set_timesteps(steps)
    draw, samples = torch.Generator().manual_seed(seed), start
    following = torch.cat([scheduler.timesteps[1:], torch.zeros(1, dtype=scheduler.timesteps.dtype)])
    for number, (time, after) in enumerate(zip(scheduler.timesteps, following, strict=True)):
        output = output_of(number, samples)
        if isinstance(scheduler, RFlowScheduler):
            samples, _ = scheduler.step(output, time, samples, after)
        elif isinstance(scheduler, DDPMScheduler):
            samples, _ = scheduler.step(output, time, samples, generator=draw)
        else:
            samples, _ = scheduler.step(output, time, samples)
    return samples


@settings(max_examples=60)
@given(SCHEDULERS, st.data())
def test_the_steps_are_those_of_monai(scheduler, data):
    levels = scheduler.num_train_timesteps
    steps = levels if isinstance(scheduler, DDPMScheduler) else data.draw(st.integers(1, levels))
    planned = planned_steps(rebuilt(*described(scheduler)), steps, 64)
    start = torch.randn((2, 1, 8), generator=torch.Generator().manual_seed(1))

    def output_of(number, samples):
        return torch.tanh(samples) + 0.1 * number

    draw = torch.Generator().manual_seed(5)
    got = run_steps(planned, output_of, start, lambda _: torch.randn(start.shape, generator=draw))
    expected = sampled(scheduler, steps, output_of, start)
    assert [step.timestep for step in planned] == [float(time) for time in scheduler.timesteps]
    assert (got - expected).abs().max() <= 2e-4 * expected.abs().max().clamp(min=1)


@pytest.mark.parametrize(
    ("scheduler", "steps"),
    [
        (DDPMScheduler(300, clip_sample=False, beta_end=0.06), 300),
        (DDIMScheduler(300, clip_sample=False, beta_end=0.06), 100),
        (PNDMScheduler(300, skip_prk_steps=True, beta_end=0.06), 100),
        (RFlowScheduler(300), 100),
    ],
)
def test_samples_of_a_known_distribution_have_its_spread(scheduler, steps):
    """For data N(0, s²) the best prediction is known, and so what must come out."""
    spread = 0.5
    planned = planned_steps(rebuilt(*described(scheduler)), steps, 64)

    def best(number, samples):
        if isinstance(scheduler, RFlowScheduler):
            part = planned[number].timestep / 300
            return ((1 - part) * spread**2 - part) / ((1 - part) ** 2 * spread**2 + part**2) * samples
        level = scheduler.alphas_cumprod[int(planned[number].timestep)].item()
        return math.sqrt(1 - level) * samples / (level * spread**2 + 1 - level)

    draw = torch.Generator().manual_seed(3)
    start = torch.randn((20000, 1), generator=draw)
    made = run_steps(planned, best, start, lambda _: torch.randn(start.shape, generator=draw))
    assert abs(made.std().item() - spread) < 0.02
    assert made.abs().mean() > 0.3


def test_the_start_is_left_alone():
    planned = planned_steps(rebuilt(*described(DDIMScheduler(10))), 5, 64)
    start = torch.ones(1, 1, 4)
    run_steps(planned, lambda _, samples: samples, start, lambda _: start)
    assert torch.equal(start, torch.ones(1, 1, 4))


def with_offset(offset):
    scheduler = DDIMScheduler(10)
    scheduler.steps_offset = offset
    return scheduler


@pytest.mark.parametrize(
    ("scheduler", "steps", "message"),
    [
        (DDIMScheduler(10), 11, r"`steps` must be an integer in \[1, 10\], got 11"),
        (DDIMScheduler(10), 0, "got 0"),
        (DDIMScheduler(10), True, "got True"),
        (DDPMScheduler(10), 5, "`steps` must be 10 for a DDPMScheduler.*keep their noise.*DDIMScheduler"),
        (PNDMScheduler(10), 5, "skip_prk_steps.*must be True"),
        (with_offset(10), 5, "must be able to denoise in 5 steps"),
    ],
)
def test_wrong_steps_are_named(scheduler, steps, message):
    with pytest.raises(ConfigurationError, match=message):
        planned_steps(rebuilt(*described(scheduler)), steps, 64)


def test_levels_of_pure_noise_are_named():
    scheduler = DDIMScheduler(10)
    scheduler.alphas_cumprod = torch.linspace(1, 0, 10)
    with pytest.raises(ConfigurationError, match=r"must have finite steps.*no level may be pure noise"):
        planned_steps(rebuilt(*described(scheduler)), 10, 64)


def test_another_arithmetic_is_noticed(monkeypatch):
    """A MONAI that steps otherwise must not be sampled by numbers that are not its own."""
    original = DDIMScheduler.step
    monkeypatch.setattr(DDIMScheduler, "step", lambda self, *rest: tuple(1.01 * x for x in original(self, *rest)))
    with pytest.raises(ConfigurationError, match=r"must step as MONAI 1\.6's DDIMScheduler does"):
        planned_steps(rebuilt(*described(DDIMScheduler(10))), 5, 64)
