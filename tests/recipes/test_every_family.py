"""Every family of `fit list`, from training to a mixed batch: saved, loaded, rendered, verified, pooled and mixed."""

from __future__ import annotations

from contextlib import closing

import pytest
import torch
from accelerate import Accelerator
from fit_helpers import blobs, tiny
from torch.utils.data import DataLoader

from torchgenaug import (
    LabelsToImageSynthesizer,
    ShardSource,
    SyntheticMixDataset,
    SyntheticPool,
    SyntheticSequence,
    load_synthesizer,
    render_shards,
    save_synthesizer,
    verify_shards,
)
from torchgenaug.recipes import list_families
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe, describe_family, family_view, given_fields, resolve_condition
from torchgenaug.recipes.options import FitOptions
from torchgenaug.recipes.report import HeldOutConditions
from torchgenaug.recipes.state import TrainingState

pytest.importorskip("monai")
pytest.importorskip("pythae")

SIZES = {"lora": (8, 8), "slices": (8, 8, 4), "msssim-vae": (32, 32)}
CONDITIONS = {"inpaint": "mask", "inpaint-ddpm": "mask", "ddpm": "label", "vqvae2": "label", "stylegan2": "label"}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A ddpm that has learnt nothing."""
    recipe = build_recipe("ddpm", blobs(), tiny(sampling_steps=4))
    folder = tmp_path_factory.mktemp("teacher") / "ddpm"
    save_synthesizer(recipe.synthesizer(recipe.networks), folder)
    return folder


def options_of(family, request):
    about = describe_family(family)
    changes = {"condition": CONDITIONS.get(family), "with_mask": family == "two-stage-vae", "steps": 1}
    changes |= {"latent_dim": None if about.teacher or about.pretrained else 4}
    if about.teacher:
        changes |= {"teacher": str(request.getfixturevalue("teacher")), "sampling_steps": 2, "width": None}
    if about.pretrained:
        changes |= {"start": str(request.getfixturevalue("pipeline")), "width": None, "settings": {"rank": 1}}
    return tiny(**changes)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("family", list_families())
def test_from_training_to_a_mixed_batch(family, request, tmp_path, monkeypatch):
    monkeypatch.setattr("torchgenaug.recipes.families.autoencoders._PRIOR_STEPS", 1)
    torch.manual_seed(0)
    data = blobs(12, SIZES.get(family, (16, 16)))
    options = resolve_condition(family, data, options_of(family, request))
    data = family_view(family, data, options)
    run = TrainingState(build_recipe(family, data, options), Accelerator(cpu=True), FitOptions())
    losses = run.train_step(training_batches(data, 4), 0.9)
    assert losses
    names = given_fields(family, options)
    check_served_alike(run.synthesizer(), HeldOutConditions(data, names) if names else None, data, tmp_path)


def test_painted_masks_to_a_mixed_batch(tmp_path):
    data = blobs(12, (16, 16))
    check_served_alike(LabelsToImageSynthesizer(data.fields["mask"]), HeldOutConditions(data, "mask"), data, tmp_path)


def check_served_alike(synthesizer, conditions, data, folder):
    """Saved, loaded, rendered, verified, pooled and mixed, its samples are the same."""
    save_synthesizer(synthesizer, folder / "model")
    model = load_synthesizer(folder / "model")
    assert model.fingerprint == synthesizer.fingerprint
    sequence = SyntheticSequence(model, conditions, screens=())
    render_shards(sequence, folder / "shards", 2, batch_size=2)
    assert verify_shards(folder / "shards").ok
    rendered = ShardSource(folder / "shards")
    real = [{"image": data.samples[k]["image"]} for k in range(2)]
    with closing(SyntheticPool(sequence, 2, batch_size=2, background=False)) as pool:
        assert torch.equal(pool.read([0, 1])["image"], rendered.read([0, 1])["image"])
        mixed = SyntheticMixDataset(real, pool, mode="extend", count=2, fields=("image",))
        (batch,) = DataLoader(mixed, batch_size=4)
    wanted = [each["image"] for each in real] + list(rendered.read([0, 1])["image"])
    assert all(any(torch.equal(a, b) for b in batch["image"]) for a in wanted)
