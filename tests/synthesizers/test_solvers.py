"""Solvers on a model whose samples are known: the optimal denoiser of Gaussian pixels, in closed form."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import tiny_nets
import torch

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers import DiffusersSynthesizer
from torchgenaug.synthesizers.diffusion.solvers import SOLVERS, with_solver

MEAN, STD = 0.3, 0.5  # of the pixels; that of the noise is 0 and 1
SEEDS = list(range(160))  # of 64 pixels each: the standard error of the mean is 0.0025, of the std 0.7 %


class GaussianNet(diffusers.UNet2DModel):
    """E[·|x_t] for independent pixels of mean m and standard deviation s, with x_t = a x_0 + b e.

    E[x_0|x_t] = m + a s² / (a² s² + b²) · (x_t - a m). For ``consistency``, instead, where the probability flow from
    x_t ends: m + s (x_t - a m) / sqrt(a² s² + b²).
    """

    kind = "epsilon"
    levels: tuple[np.ndarray, np.ndarray]

    def forward(self, sample, timestep, class_labels=None, return_dict=True):
        a, b = (float(np.interp(float(timestep), np.arange(len(level)), level)) for level in self.levels)
        centred, variance = sample - a * MEAN, (a * STD) ** 2 + b**2
        if self.kind == "consistency":
            clean = MEAN + STD * centred / variance**0.5
        else:
            clean = MEAN + a * STD**2 / variance * centred
        noise = (sample - a * clean) / max(b, 1e-9)
        return (
            {
                "epsilon": noise,
                "consistency": noise,
                "v_prediction": a * noise - b * clean,
                "sample": clean,
                "flow": noise - clean,
            }[self.kind],
        )


def gaussian(scheduler, kind, **options):
    net = GaussianNet(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(4,),
        norm_num_groups=2,
        attention_head_dim=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    net.kind = kind
    if kind == "flow":
        times = np.linspace(0, 1, 1001)
        net.levels = (1 - times, times)
    else:
        alphas = scheduler.alphas_cumprod.double().numpy()
        net.levels = (np.sqrt(alphas), np.sqrt(1 - alphas))
    return DiffusersSynthesizer(net, scheduler, value_range=(-1, 1), **options)


def moments(synthesizer):
    image = synthesizer.synthesize(SEEDS)["image"].double()
    return image.mean().item(), image.std().item()


def given(prediction, **config):
    return diffusers.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type=prediction, clip_sample=False, **config
    )


# solver, network → how far the standard deviation may be from the data's after 12 steps: first-order solvers lose some.
FIRST, SECOND = 0.15, 0.045
CASES = {
    ("ddim", "epsilon"): FIRST,
    ("ddim", "v_prediction"): FIRST,
    ("ddim", "sample"): FIRST,
    ("dpm++", "epsilon"): SECOND,
    ("dpm++", "v_prediction"): SECOND,
    ("dpm++", "sample"): SECOND,
    ("dpm++", "flow"): SECOND,
    ("euler", "epsilon"): FIRST,
    ("euler", "v_prediction"): FIRST,
    ("flow", "flow"): FIRST,
    ("lcm", "consistency"): 0.02,
    ("unipc", "epsilon"): SECOND,
    ("unipc", "v_prediction"): SECOND,
    ("unipc", "sample"): SECOND,
    ("unipc", "flow"): SECOND,
}


def scheduler_for(kind):
    if kind == "flow":
        return diffusers.FlowMatchEulerDiscreteScheduler()
    return given("epsilon" if kind == "consistency" else kind)


@pytest.mark.parametrize(("solver", "kind"), CASES)
def test_twelve_steps_reach_mean_and_standard_deviation(solver, kind):
    mean, std = moments(gaussian(scheduler_for(kind), kind, solver=solver, steps=12))
    assert mean == pytest.approx(MEAN, abs=0.01)
    assert std == pytest.approx(STD, rel=CASES[solver, kind])


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "euler", "unipc"])
def test_few_steps_start_at_pure_noise(solver):
    made = with_solver(given("epsilon"), solver, 4)
    made.set_timesteps(4)
    assert float(made.timesteps[0]) == 999


def test_none_is_the_given_scheduler():
    scheduler = given("epsilon")
    assert with_solver(scheduler, None, 4) is scheduler


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "euler", "unipc", "lcm"])
def test_the_noise_levels_are_kept_and_nothing_is_clipped_that_was_not(solver):
    """from_config alone gives LCM other noise levels here, and DDIM clipping: both take defaults for their own."""
    for scheduler in (
        diffusers.EulerDiscreteScheduler(beta_start=1e-4, beta_end=0.02),
        diffusers.DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"),
    ):
        made = with_solver(scheduler, solver, 4)
        assert torch.allclose(made.alphas_cumprod, scheduler.alphas_cumprod)
        assert made.config.prediction_type == scheduler.config.prediction_type
        assert not made.config.get("clip_sample", False)
    assert with_solver(diffusers.DDPMScheduler(), "ddim", 4).config.clip_sample


def test_a_shift_is_kept():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    assert with_solver(scheduler, "dpm++", 4).config.flow_shift == 3
    assert with_solver(with_solver(scheduler, "unipc", 4), "flow", 4).config.shift == 3


def test_lcm_takes_as_many_steps_as_are_asked_for():
    made = gaussian(given("epsilon"), "consistency", solver="lcm", steps=80)
    assert len(made.scheduler.timesteps) == 80


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_lcm_agrees_with_the_loop_of_diffusers(prediction, steps):
    """Its own scheduler, stepped as its pipelines do, on the same network and noise."""
    net, trained = tiny_nets.unet().eval(), given(prediction)
    own = diffusers.LCMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=prediction, clip_sample=False)
    own.set_timesteps(steps)
    seeds = SEEDS[:3]
    x = seeding.normal(seeding.derive(seeds, seeding.NOISE), (1, 8, 8)) * own.init_noise_sigma
    each = [torch.Generator().manual_seed(k) for k in seeding.derive(seeds, seeding.STEP_NOISE).tolist()]
    with torch.no_grad():
        for time in own.timesteps:
            output = net(own.scale_model_input(x, time), time, return_dict=False)[0]
            x, denoised = own.step(output, time, x, generator=each, return_dict=False)
    made = DiffusersSynthesizer(net, trained, solver="lcm", steps=steps, value_range=(-1, 1))
    assert (made.synthesize(seeds)["image"] - denoised).abs().max() <= 1e-4 * max(1, denoised.abs().max())


def test_a_solver_is_as_good_as_the_scheduler_itself():
    """The same fingerprint, because the same samples."""
    net, scheduler = tiny_nets.unet(), given("epsilon")
    by_name = DiffusersSynthesizer(net, scheduler, solver="unipc", steps=5, value_range=(0, 1))
    by_hand = DiffusersSynthesizer(net, with_solver(scheduler, "unipc", 5), steps=5, value_range=(0, 1))
    assert by_name.fingerprint == by_hand.fingerprint
    assert "solver" not in by_name.settings
    assert isinstance(by_name.scheduler, diffusers.UniPCMultistepScheduler)


@pytest.mark.parametrize(
    ("scheduler", "solver", "message"),
    [
        (given("epsilon"), "dpm", "`solver` must be one of ddim, dpm.*or None, got 'dpm'.*DEISMultistepScheduler.from"),
        (given("epsilon"), 3, "`solver` must be one of .*got 3"),
        (given("epsilon"), "flow", "for a diffusion model, got 'flow' for DDPMScheduler"),
        (given("sample"), "euler", "takes prediction_type='sample', got 'euler'.*dpm"),
        (given("epsilon", variance_type="learned_range"), "ddim", "also predicts variances, got 'ddim'"),
        (
            diffusers.FlowMatchEulerDiscreteScheduler(),
            "ddim",
            r"dpm\+\+, flow, unipc for a flow-matching model, got 'ddim'",
        ),
        (diffusers.EDMEulerScheduler(), "dpm++", "`solver` must be None for EDMEulerScheduler, got 'dpm"),
    ],
)
def test_what_cannot_work_is_refused(scheduler, solver, message):
    with pytest.raises(ConfigurationError, match=message):
        with_solver(scheduler, solver, 4)


def test_predicted_variances():
    """DPM-Solver++ of diffusers cuts them off after three channels, and only then."""
    scheduler = given("epsilon", variance_type="learned_range")
    options = {"solver": "dpm++", "steps": 3, "value_range": (-1, 1)}
    made = DiffusersSynthesizer(tiny_nets.unet(3, out_channels=6), scheduler, **options)
    assert made.synthesize([1])["image"].shape == (1, 3, 8, 8)
    with pytest.raises(ConfigurationError, match=r"denoise in 3 steps, got DPMSolverMultistepScheduler"):
        DiffusersSynthesizer(tiny_nets.unet(out_channels=2), scheduler, **options)


class OtherLevels(diffusers.DDPMScheduler):
    def __init__(self, beta_schedule="linear", prediction_type="epsilon"):
        super().__init__(beta_schedule=beta_schedule)
        self.alphas_cumprod = self.alphas_cumprod**2


def test_lost_noise_levels_are_noticed():
    with pytest.raises(ConfigurationError, match=r"walk the noise levels of the given OtherLevels.*has others"):
        with_solver(OtherLevels(), "dpm++", 4)


def test_the_names_are_these():
    assert SOLVERS == ("ddim", "dpm++", "euler", "flow", "lcm", "unipc")
