from __future__ import annotations

import diffusers
import pytest
import torch

from torchgenaug.synthesizers.diffusion.folded import FoldedStep, Row, run_folded
from torchgenaug.synthesizers.diffusion.linear_steps import fold

# name → (scheduler, how many operations a step may take in the long run)
FOLDABLE = {
    "DDIM": (diffusers.DDIMScheduler(clip_sample=False), 2),
    "DDIM, v": (diffusers.DDIMScheduler(clip_sample=False, prediction_type="v_prediction"), 2),
    "DDIM, sample": (diffusers.DDIMScheduler(clip_sample=False, prediction_type="sample"), 2),
    "DDIM, clips": (diffusers.DDIMScheduler(), 5),
    "DDIM, v, clips": (diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample_range=1.5), 6),
    "DDIM, sample, clips": (diffusers.DDIMScheduler(prediction_type="sample"), 5),
    "Euler": (diffusers.EulerDiscreteScheduler(), 2),
    "Euler, Karras": (diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, prediction_type="v_prediction"), 2),
    "flow matching": (diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0), 2),
    "EDM": (diffusers.EDMEulerScheduler(), 2),
    "DPM-Solver++": (diffusers.DPMSolverMultistepScheduler(), 5),
    "DPM-Solver++, v": (diffusers.DPMSolverMultistepScheduler(prediction_type="v_prediction"), 5),
    "DPM-Solver++, order 3": (diffusers.DPMSolverMultistepScheduler(solver_order=3), 6),
    "UniPC": (diffusers.UniPCMultistepScheduler(), 9),
    "UniPC, flow": (diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"), 9),
    "DEIS": (diffusers.DEISMultistepScheduler(), 4),
    "Heun": (diffusers.HeunDiscreteScheduler(), 3),
    "LMS": (diffusers.LMSDiscreteScheduler(), 6),
    "PNDM": (diffusers.PNDMScheduler(), 6),
}
OTHERS = {
    "thresholds": diffusers.DDIMScheduler(clip_sample=False, thresholding=True),
    "thresholds and clips": diffusers.DDIMScheduler(thresholding=True),
    "draws noise": diffusers.DDPMScheduler(clip_sample=False),
    "remembers everything": diffusers.IPNDMScheduler(),
}


def net(latents, timestep):
    """A network that is not linear, so that an error in one step shows in all that follow."""
    return torch.sin(2 * latents) + 0.001 * float(timestep)


@pytest.mark.parametrize("name", FOLDABLE)
@pytest.mark.parametrize("steps", [4, 7, 50])
def test_folded_steps_are_the_schedulers(name, steps):
    scheduler, operations = FOLDABLE[name]
    scheduler.set_timesteps(steps)
    folded = fold(scheduler)
    assert folded is not None
    assert len(folded) == len(scheduler.timesteps)
    count = sum(len(row.terms) + (row.limit is not None) for step in folded for row in step.rows)
    assert count <= operations * len(folded)
    # float64, because this network amplifies the rounding of float32 more than an error in a number should be.
    start = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    start = start * getattr(scheduler, "init_noise_sigma", 1.0)
    got = run_folded(folded, start.clone(), lambda number, x: net(x, scheduler.timesteps[number]))
    fresh = type(scheduler).from_config(scheduler.config)
    fresh.set_timesteps(steps)
    expected = start
    for timestep in fresh.timesteps:
        scaled = fresh.scale_model_input(expected, timestep) if hasattr(fresh, "scale_model_input") else expected
        expected = fresh.step(net(scaled, timestep), timestep, expected, return_dict=False)[0]
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max().clamp(min=1)


@pytest.mark.parametrize("name", ["DDIM", "DDIM, clips", "DPM-Solver++", "UniPC", "Euler"])
def test_a_single_step(name):
    scheduler, _ = FOLDABLE[name]
    scheduler.set_timesteps(1)
    assert fold(scheduler) is not None


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_left_alone(name):
    scheduler = OTHERS[name]
    scheduler.set_timesteps(20)
    assert fold(scheduler) is None


class WrongInTheMiddle(diffusers.DDIMScheduler):
    """Adds the square of the output in one step; the next step forgets x, so that the end does not show it."""

    def step(self, model_output, timestep, sample, return_dict=True):
        bend = model_output.square() if int(timestep) == 500 else 0.0
        return (model_output if int(timestep) == 250 else sample + model_output + bend,)


def test_every_step_is_compared():
    scheduler = WrongInTheMiddle(clip_sample=False)
    scheduler.set_timesteps(4)
    assert [int(timestep) for timestep in scheduler.timesteps] == [750, 500, 250, 0]
    assert fold(scheduler) is None


@pytest.mark.parametrize("name", ["Euler", "DDIM, clips", "UniPC"])
def test_folding_does_not_change_the_scheduler(name):
    scheduler = type(FOLDABLE[name][0])()
    scheduler.set_timesteps(5)
    before = {key: str(value) for key, value in vars(scheduler).items()}
    fold(scheduler)
    assert {key: str(value) for key, value in vars(scheduler).items()} == before


def test_a_network_may_return_its_very_input():
    steps = (FoldedStep(1.0, (Row(((0, 2.0), (1, 3.0))),)),)
    assert run_folded(steps, torch.ones(1, 1, 2, 2), lambda _, x: x).unique().tolist() == [5.0]


@pytest.mark.parametrize("name", ["LMS", "PNDM", "Heun", "UniPC"])
def test_a_network_may_use_its_output_buffer_again(name):
    scheduler, _ = FOLDABLE[name]
    scheduler.set_timesteps(6)
    folded, buffer = fold(scheduler), torch.empty(2, 1, 4, 4)
    start = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    fresh = run_folded(folded, start.clone(), lambda number, x: torch.sin(x) + number)
    again = run_folded(folded, start.clone(), lambda number, x: torch.sin(x, out=buffer).add_(number))
    assert torch.equal(fresh, again)
