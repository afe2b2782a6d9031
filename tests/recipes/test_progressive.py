"""Progressive distillation: the student in few steps against its teacher in many, from the same noise."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import warnings

import pytest
import torch
from fit_helpers import blobs, tiny

from torchgenaug import SyntheticSequence, load_synthesizer, save_synthesizer
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.recipes import FitOptions, Options, checkpoint, fit, state
from torchgenaug.recipes.ancestry import Ancestor
from torchgenaug.recipes.families import progressive
from torchgenaug.recipes.families.ddim import ddim_step, trailing_times
from torchgenaug.recipes.families.teachers import load_teacher
from torchgenaug.recipes.report import HeldOutConditions
from torchgenaug.seeding import NOISE, derive, normal
from torchgenaug.synthesizers import ModuleSynthesizer, build_network

pytest.importorskip("monai")

CASES = [
    ("ddpm", (16, 16), {"with_mask": True}),
    ("ddpm", (8, 8, 8), {"condition": "source"}),
    ("ldm", (16, 16), {"condition": "label", "guidance_scale": 2.0}),
]
STUDENT = {"steps": 4, "batch_size": 4, "sampling_steps": 2}


def run(out, family, data, recipe, fresh=False, **options):
    options = FitOptions(**{"reports": 1} | options)
    return fit(family, data, out, recipe=recipe, options=options, device="cpu", fresh=fresh, progress=False)


def distil(out, teacher, data, changes=None, **options):
    return run(out, "progressive", data, Options(teacher=str(teacher), **STUDENT | (changes or {})), **options)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Told the class; long enough trained to make something."""
    out = tmp_path_factory.mktemp("teacher") / "model"
    run(out, "ddpm", blobs(), tiny(steps=40, batch_size=8, condition="label", learning_rate=5e-3))
    return out


@pytest.mark.parametrize(("family", "spatial", "options"), CASES)
def test_every_kind_of_teacher(tmp_path, family, spatial, options):
    """The student is told the same, makes the same fields in fewer steps, and is saved."""
    data = blobs(spatial=spatial)
    its = run(tmp_path / "teacher", family, data, tiny(steps=1, **options)).synthesizer
    made = distil(tmp_path / "student", tmp_path / "teacher", data, {"steps": 3}).synthesizer
    loaded = load_synthesizer(tmp_path / "student")
    assert loaded.fingerprint == made.fingerprint != its.fingerprint
    assert loaded.fields == its.fields
    assert loaded.num_classes == its.num_classes
    assert (loaded.settings["steps"], loaded.settings["guidance_scale"]) == (2, None)
    batch = SyntheticSequence(loaded, HeldOutConditions(data, options.get("condition"))).batch([3, 4])
    assert batch["image"].shape == (2, 1, *spatial)


@pytest.fixture(scope="module")
def told_masks(tmp_path_factory, short_reports):
    """Sampled by MONAI's scheduler."""
    out = tmp_path_factory.mktemp("masks") / "model"
    run(out, "ddpm", blobs(), tiny(steps=2, condition="mask"))
    return out


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("condition", ["label", "mask"])
def test_the_student_walks_the_steps_that_it_was_taught(teacher, told_masks, steps, condition):
    """diffusers' and MONAI's samplers take exactly the times and steps of the training."""
    its = load_teacher(str(teacher if condition == "label" else told_masks))
    made, seeds = its.student(its.unet, steps), [1, 2]
    told = {name: torch.stack([blobs().samples[k][name] for k in seeds]) for name in ("label", "mask")}
    got = made.synthesize(seeds, {condition: told[condition]})["image"]
    x = normal(derive(seeds, NOISE), (1, 16, 16))
    hot = torch.nn.functional.one_hot(told["mask"][:, 0], 2).movedim(-1, 1).float()
    for end, start in list(zip(*(trailing_times(steps, 1000)[k:] for k in (0, 1)), strict=False))[::-1]:
        time, to = start.expand(2), end.expand(2)
        with torch.no_grad():
            if condition == "label":
                velocity = its.unet(x, time, class_labels=told["label"]).sample
            else:
                velocity = its.unet(torch.cat([x, hot], 1), time)
        x = ddim_step(x, velocity, its.alphas, time, to)
    assert torch.allclose(got, (x.clamp(-1, 1) + 1) * 50, atol=0.02)


def test_one_step_comes_near_sixteen_of_the_teacher(tmp_path, teacher):
    """From the same noise, since neither draws any more."""
    changes = {"steps": 48, "batch_size": 8, "sampling_steps": 1, "learning_rate": 2e-3}
    student = distil(tmp_path / "student", teacher, blobs(), changes).synthesizer
    its, seeds, told = load_teacher(str(teacher)), list(range(16)), {"label": torch.arange(16) % 2}
    wanted, untaught = (its.student(its.unet, steps).synthesize(seeds, told)["image"] for steps in (16, 1))
    made = student.synthesize(seeds, told)["image"]
    assert (made - wanted).square().mean() < 0.7 * (untaught - wanted).square().mean()


def test_it_says_what_its_teacher_saw(tmp_path, teacher):
    seen = load_synthesizer(teacher).trained_on["samples"]
    few = blobs().select(range(10))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        distil(tmp_path / "student", teacher, few, {"steps": 1})
    assert "The teacher was trained on 1 of the 1 held-out samples" in " ".join(str(each.message) for each in caught)
    about = load_synthesizer(tmp_path / "student").trained_on
    assert set(about["samples"]) >= set(seen)
    assert about["samples"][:9] == [name for name in about["samples"] if name in few.ids][:9]
    assert about["teacher"] == {"fingerprint": load_synthesizer(teacher).fingerprint, "data": "blobs"}
    its = load_teacher(str(teacher))
    Ancestor("teacher", its.synthesizer.fingerprint, its.trained_on).warn_of_seen(blobs().split(0.1, 0)[1])  # or fails


def test_nobody_knows_what_an_unknown_teacher_saw(tmp_path, teacher):
    its = load_synthesizer(teacher)
    known, its.trained_on = its.trained_on, None
    try:
        save_synthesizer(its, tmp_path / "unknown")
    finally:
        its.trained_on = known
    assert distil(tmp_path / "student", tmp_path / "unknown", blobs()).synthesizer.trained_on is None


def test_interrupted_before_and_after_a_change_of_stage(tmp_path, monkeypatch, teacher):
    """Stages of 8 and 4 steps begin after 0 and 2 of 4 training steps; the run stops after 1, 2, 3 and 4."""
    data, changes = blobs(), {"steps": 4, "sampling_steps": 4}
    whole = distil(tmp_path / "whole", teacher, data, changes)
    step = state.TrainingState.train_step

    def watched(self, batches, progress):
        losses = step(self, batches, progress)
        os.kill(os.getpid(), signal.SIGTERM)
        return losses

    monkeypatch.setattr(state.TrainingState, "train_step", watched)
    for _ in range(4):
        result = distil(tmp_path / "parts", teacher, data, changes)
    assert result.finished
    assert result.synthesizer.fingerprint == whole.synthesizer.fingerprint
    # The learning rate falls within each stage: the last of two steps has half of it.
    kept = checkpoint.load(tmp_path / "parts/training", torch.device("cpu"))["optimizers"]["unet"]
    assert kept["param_groups"][0]["lr"] == pytest.approx(progressive.RATE / 2)


def test_another_teacher_in_the_same_folder_is_noticed(tmp_path, teacher):
    data, other = blobs(), load_synthesizer(teacher)
    shutil.copytree(teacher, tmp_path / "teacher")
    distil(tmp_path / "student", tmp_path / "teacher", data, {"steps": 1})
    next(other.unet.parameters()).mul_(2)
    shutil.rmtree(tmp_path / "teacher")
    save_synthesizer(other, tmp_path / "teacher")
    with pytest.raises(ConfigurationError, match=r"same settings.*teacher_fingerprint: '.*--fresh"):
        distil(tmp_path / "student", tmp_path / "teacher", data, {"steps": 1})


def test_what_does_not_fit_the_teacher(tmp_path, teacher):
    data = blobs()
    fields = data.fields | {"image": dataclasses.replace(data.fields["image"], value_range=(0, 255))}
    without_labels = dataclasses.replace(data, fields={k: v for k, v in data.fields.items() if k != "label"})
    cases = [
        (data, {"condition": "mask"}, r"--condition: label there, mask here"),
        (data, {"with_mask": True}, r"--with-mask: False there, True here"),
        (blobs(spatial=(24, 16)), {}, r"image shape: \(1, 16, 16\) there, \(1, 24, 16\) here"),
        (blobs(classes=3), {}, r"number of labels: 2 there, 3 here"),
        (dataclasses.replace(data, fields=fields), {}, r"image range: \(0.0, 100.0\) there, \(0.0, 255.0\) here"),
        (without_labels, {}, r"The data must have 'label'.*The model in '.*' has it; take another one, or choose data"),
        (data, {"sampling_steps": 3}, r"`sampling_steps` must be one of 1, 2, 4, 8 for progressive, got 3"),
        (data, {"width": 8}, r"`width` must be left out for progressive"),
    ]
    for given, changes, message in cases:
        with pytest.raises(ConfigurationError, match=message):
            distil(tmp_path / "student", teacher, given, changes)
    with pytest.raises(ConfigurationError, match="`patience` must be left out for progressive"):
        distil(tmp_path / "student", teacher, data, patience=2)
    with pytest.raises(ConfigurationError, match="`out` must be another folder than the teacher's"):
        distil(teacher / ".." / teacher.name, teacher, data, fresh=True)
    assert not (tmp_path / "student").exists()


def test_what_is_no_teacher(tmp_path):
    data = blobs()
    with pytest.raises(ConfigurationError, match=r"`teacher` must be the folder of a trained ddpm or ldm.*--teacher"):
        run(tmp_path / "student", "progressive", data, Options(**STUDENT))
    with pytest.raises(ConfigurationError, match=r"`teacher` must be left out for ddpm, got 'x'. progressive learns"):
        run(tmp_path / "student", "ddpm", data, Options(teacher="x"))
    with pytest.raises(SynthesizerLoadError, match=r"`path` must be a folder with synthesizer.json"):
        distil(tmp_path / "student", tmp_path / "nothing", data)
    net = build_network("torchgenaug:DCGANGenerator", latent_dim=4, shape=[1, 16, 16], width=4)
    save_synthesizer(ModuleSynthesizer(net, latent_shape=(4,), value_range=(0, 1)), tmp_path / "gan")
    with pytest.raises(ConfigurationError, match=r"`teacher` must be a diffusion model.*got a ModuleSynthesizer"):
        distil(tmp_path / "student", tmp_path / "gan", data)
    assert not (tmp_path / "student").exists()


def test_only_the_first_stage_is_guided(teacher):
    """Its student has the guidance in its weights."""
    data, its = blobs(), load_teacher(str(teacher))
    options = Options(teacher=str(teacher), condition="label", guidance_scale=3.0, sampling_steps=1, steps=8)
    recipe = progressive.ProgressiveDistillation(its, data, options)
    noisy, time, batch = torch.randn(2, 1, 16, 16), torch.tensor([999, 499]), {"label": torch.tensor([0, 1])}
    with torch.no_grad():
        told, untold = (
            its.unet(noisy, time, class_labels=labels).sample for labels in (batch["label"], torch.tensor([2, 2]))
        )
        first, later = (recipe.taught(its.unet, noisy, time, batch, stage) for stage in (0, 1))
    assert torch.allclose(first, untold + 3 * (told - untold), atol=1e-5)
    assert torch.allclose(later, told, atol=1e-5)
    assert (told - untold).abs().max() > 1e-3


def test_a_teacher_that_cannot_be_guided(tmp_path, told_masks):
    with pytest.raises(ConfigurationError, match="`guidance_scale` must be left out for a teacher without a class"):
        distil(tmp_path / "student", told_masks, blobs(), {"guidance_scale": 2.0})
