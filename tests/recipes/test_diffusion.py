from __future__ import annotations

import copy
import os
import signal

import pytest
import torch
from accelerate import Accelerator
from fit_helpers import blobs, tiny
from torch import nn

from torchgenaug import SyntheticSequence, load_synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import FitOptions, fit, state
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe
from torchgenaug.recipes.families.objective import VelocityObjective
from torchgenaug.recipes.report import HeldOutConditions

pytest.importorskip("monai")

CASES = [
    ("ddpm", (16, 16), {"condition": "mask"}),
    ("ddpm", (16, 16), {"condition": "source"}),
    ("ddpm", (16, 16), {"with_mask": True}),
    ("ddpm", (16, 16, 16), {"condition": "label"}),
    ("ddpm", (16, 16, 16), {"with_mask": True}),
    ("ldm", (16, 16), {"condition": "label"}),
    ("ldm", (16, 24, 16), {"settings": {"adversarial": 0.1}}),
]


def run(out, family, data, options):
    return fit(family, data, out, recipe=options, options=FitOptions(reports=1), device="cpu", progress=False)


@pytest.mark.parametrize(("family", "spatial", "options"), CASES)
def test_trained_saved_and_sampled(tmp_path, family, spatial, options):
    data = blobs(spatial=spatial)
    made = run(tmp_path / "model", family, data, tiny(steps=3, **options)).synthesizer
    loaded = load_synthesizer(tmp_path / "model")
    assert loaded.fingerprint == made.fingerprint
    conditions = HeldOutConditions(data, options.get("condition"))
    batch, again = (SyntheticSequence(each, conditions).batch([3, 4]) for each in (made, loaded))
    assert batch["image"].shape == (2, 1, *spatial)
    assert batch.keys() == again.keys()
    for name, values in batch.items():
        assert torch.equal(values, again[name])
    if options.get("with_mask"):
        assert set(batch["mask"].unique().tolist()) <= {0, 1}


def test_told_a_source_the_model_learns_to_follow_it(tmp_path):
    """The source is the inverted image: after some steps its sample must be nearer to its own image than to others."""
    data = blobs(40)
    options = tiny(steps=60, batch_size=16, condition="source", sampling_steps=5, learning_rate=5e-3)
    synthesizer = run(tmp_path / "model", "ddpm", data, options).synthesizer
    batch = SyntheticSequence(synthesizer, HeldOutConditions(data, "source")).batch(list(range(8)))
    made, real = batch["image"], 100 - batch["source"]
    distances = torch.cdist(made.flatten(1), real.flatten(1))
    assert (distances.argmin(1) == torch.arange(8)).float().mean() >= 0.75


def test_latents_have_unit_variance_whatever_the_batches_are(tmp_path):
    """The scale is a function of autoencoder and data: each of several processes must find the same."""
    data, scales = blobs(), []
    for batch_size in (2, 8):
        recipe = build_recipe("ldm", data, tiny(batch_size=batch_size))
        weights = torch.Generator().manual_seed(0)
        for parameter in recipe.networks["autoencoder"].parameters():
            nn.init.normal_(parameter, std=0.1, generator=weights)
        batch = {"image": data.samples[0]["image"].expand(batch_size, -1, -1, -1) / 50 - 1}
        recipe.train_step(batch, lambda losses: None, 0.9)
        scales.append(recipe.synthesizer(recipe.networks).scale_factor)
    assert scales[0] == scales[1]
    images = torch.stack([data.samples[row]["image"] for row in range(len(data))]) / 50 - 1
    with torch.no_grad():
        means, _ = recipe.networks["autoencoder"].encode(images)
    assert float(means.std()) * scales[0] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("spatial", [(16, 16), (16, 24, 16)])
def test_an_encoder_begins_with_less_noise_than_signal(spatial):
    """MONAI's begins with a standard deviation of 1, more than latents of different images differ by."""
    torch.manual_seed(0)
    recipe = build_recipe("ldm", blobs(spatial=spatial), tiny())
    with torch.no_grad():
        means, deviations = recipe.networks["autoencoder"].encode(torch.rand(2, 1, *spatial) * 2 - 1)
    assert float(deviations.mean()) < 0.1 < 5 * float(means.std())


def test_the_rate_of_an_autoencoder_falls_to_nearly_nothing():
    """It is not averaged, and the denoiser learns what the last one makes of the images."""
    recipe = build_recipe("ldm", blobs(), tiny(learning_rate=0.01))
    run, rates = state.TrainingState(recipe, Accelerator(cpu=True), FitOptions()), []
    for progress in (0.0, 0.25, 0.4999):
        run.train_step(training_batches(blobs(), 4), progress)
        rates.append(run.optimizers["autoencoder"].param_groups[0]["lr"])
    assert rates == [pytest.approx(0.01), pytest.approx(0.0051), pytest.approx(0.0002, rel=0.01)]


def test_latent_diffusion_resumes_on_both_sides_of_its_phase_change(tmp_path, monkeypatch):
    data, options = blobs(), tiny(steps=5)
    whole = run(tmp_path / "whole", "ldm", data, options)
    step = state.TrainingState.train_step

    def watched(self, batches, progress):
        losses = step(self, batches, progress)
        os.kill(os.getpid(), signal.SIGTERM)
        return losses

    monkeypatch.setattr(state.TrainingState, "train_step", watched)
    for _ in range(5):
        result = run(tmp_path / "parts", "ldm", data, options)
    assert result.finished
    assert result.synthesizer.fingerprint == whole.synthesizer.fingerprint
    assert result.synthesizer.scale_factor != 1.0


def test_the_critic_of_an_autoencoder_learns_and_pulls_at_it():
    """Its weights change, and so does the step of the autoencoder."""
    data, rebuilt = blobs(), []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        recipe = build_recipe("ldm", data, tiny(settings={"adversarial": weight}))
        run = state.TrainingState(recipe, Accelerator(cpu=True), FitOptions())
        before = {name: copy.deepcopy(network.state_dict()) for name, network in recipe.networks.items()}
        losses = run.train_step(training_batches(data, 4), 0.0)
        assert ("critic" in losses) == bool(weight)
        if weight:
            after = recipe.networks["critic"].state_dict()
            assert any(not torch.equal(after[name], each) for name, each in before["critic"].items())
        rebuilt.append(torch.cat([each.flatten() for each in recipe.networks["autoencoder"].parameters()]))
    assert not torch.equal(*rebuilt)


def test_the_objective_is_zero_for_the_true_velocity():
    alphas = torch.linspace(0.999, 0.001, 1000)
    clean = torch.randn(6, 1, 8, 8)

    def oracle(noisy, time):
        alpha = alphas[time].view(-1, 1, 1, 1)
        noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * clean

    objective = VelocityObjective(alphas)
    assert objective.loss(oracle, clean) < 1e-6
    # Over many times the weights average out to 1.
    clean = torch.zeros(20_000, 1, 1, 1)
    assert objective.loss(lambda noisy, time: oracle(noisy, time) + 1, clean) == pytest.approx(1, abs=0.03)


def test_the_objective_is_unbiased_whatever_the_batch_size():
    """The mean over batches of one sample is that over large batches: no weight depends on the batch."""
    alphas = torch.linspace(0.99, 0.01, 50)
    objective = VelocityObjective(alphas)

    def off(noisy, time):
        return (time.float() / 50).view(-1, 1, 1, 1).expand_as(noisy)

    torch.manual_seed(0)
    clean = torch.zeros(4000, 1, 1, 1)
    single = torch.stack([objective.loss(off, row[None]) for row in clean]).mean()
    assert float(single) == pytest.approx(float(objective.loss(off, torch.zeros(200_000, 1, 1, 1))), rel=0.1)


def test_the_objective_weighs_times_by_their_ratio_of_signal_to_noise_at_most_5():
    alphas = torch.tensor([0.5, 0.99])  # ratios 1 and 99: weights 1/2 and 5/100
    seen = []

    def off_by_time(noisy, time):
        seen.append(time)
        alpha = alphas[time].view(-1, 1, 1, 1)
        # Clean images of zero: the noisy one is sqrt(1 - a) e, and the velocity sqrt(a) e.
        velocity = alpha.sqrt() * noisy / (1 - alpha).sqrt()
        return velocity + (1 + time).view(-1, 1, 1, 1)

    torch.manual_seed(0)
    loss = VelocityObjective(alphas).loss(off_by_time, torch.zeros(64, 1, 2, 2))
    late = (seen[0] == 1).double().mean()
    assert 0.2 < late < 0.8
    expected = ((1 - late) * 0.5 * 1 + late * 0.05 * 4) / ((0.5 + 0.05) / 2)
    assert loss == pytest.approx(expected.item(), rel=1e-4)


def test_sizes(tmp_path):
    with pytest.raises(ConfigurationError, match=r"halved 3 times, got \(20, 20\).*--size 24,24"):
        run(tmp_path / "model", "ldm", blobs(spatial=(20, 20)), tiny())
    with pytest.raises(ConfigurationError, match=r"`condition` must be one that ldm can take \(none, label\)"):
        run(tmp_path / "model", "ldm", blobs(), tiny(condition="mask"))


@pytest.mark.parametrize(("family", "condition"), [("ddpm", "mask"), ("ldm", None)])
@pytest.mark.parametrize("steps", [None, 5, 1])
def test_each_step_ends_where_the_next_begins(family, condition, steps):
    """MONAI's own times are farther apart than its steps are long: 32 dB where 34 can be had, 22 in five steps."""
    recipe = build_recipe(family, blobs(2), tiny(condition=condition, sampling_steps=steps))
    made = recipe.synthesizer(recipe.networks)
    scheduler = made.scheduler
    scheduler.set_timesteps(made.steps)
    times, length = scheduler.timesteps.tolist(), 1000 // made.steps
    assert times == [999 - length * k for k in range(steps or 25)]
    assert times[-1] - length == -1


@pytest.mark.parametrize("family", ["ddpm", "ldm"])
def test_more_sampling_steps_than_times_are_named(family):
    recipe = build_recipe(family, blobs(2), tiny(condition="mask" if family == "ddpm" else None, sampling_steps=2000))
    with pytest.raises(ConfigurationError, match=r"integer in \[1, 1000\], got 2000"):
        recipe.synthesizer(recipe.networks)
