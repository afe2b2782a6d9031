"""Families whose condition is derived from the images: what is hidden, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from accelerate import Accelerator
from fit_helpers import blobs, tiny

from torchgenaug import SyntheticSequence, load_synthesizer
from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.recipes import FitOptions, fit
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe, family_view, given_fields
from torchgenaug.recipes.families.inpaint import window_of
from torchgenaug.recipes.families.modalities import _hidden
from torchgenaug.recipes.held_out import given_split, split_for
from torchgenaug.recipes.report import HeldOutConditions
from torchgenaug.recipes.state import TrainingState
from torchgenaug.types import FieldSpec


def without(data, *names):
    return dataclasses.replace(data, fields={k: v for k, v in data.fields.items() if k not in names})


def test_every_number_of_modalities_is_hidden_but_never_all():
    hidden = _hidden(torch.rand(600, 4), torch.rand(600))
    counts = hidden.sum(1).bincount(minlength=5)
    assert counts[0] == counts[4] == 0
    assert counts[1:4].min() > 150


def test_the_view_of_mm_gan_marks_what_it_hides():
    data = family_view("mm-gan", blobs(), tiny())
    assert data.fields["image"].shape == (2, 16, 16)
    assert data.fields["source"].shape == (4, 16, 16)
    hidden = set()
    for k in range(8):
        sample = data.samples[k]
        values, marks = sample["source"].chunk(2)
        gone = marks[:, 0, 0] == 100
        assert torch.equal(values[~gone], sample["image"][~gone])
        assert (values[gone] == 0).all()
        assert torch.equal(sample["source"], data.samples[k]["source"])
        hidden.add(tuple(gone.tolist()))
    assert hidden == {(True, False), (False, True)}


def in_colour(data, *names):
    """Fields of `blobs` with three channels."""
    fields = {
        k: FieldSpec((3, *v.shape[1:]), value_range=v.value_range) if k in names else v for k, v in data.fields.items()
    }
    samples = [
        {k: v.repeat(3, 1, 1) if k in names else v for k, v in data.samples[n].items()} for n in range(len(data))
    ]
    return dataclasses.replace(data, samples=samples, fields=fields)


@pytest.mark.parametrize("family", ["mm-gan", "mm-ddpm"])
def test_the_colours_of_a_modality_are_hidden_together(family):
    data = in_colour(blobs(8), "image")
    with pytest.warns(UserWarning, match=r"count as 4 modalities.*give --set modalities=(\S+)\. If not") as warned:
        family_view(family, data, tiny())
    advised = str(warned[0].message).split("give --set modalities=")[1].split(".")[0]
    options = tiny(settings={"modalities": advised})
    seen = family_view(family, data, options)
    patterns = {tuple((seen.samples[k]["source"][4:, 0, 0] == 100).tolist()) for k in range(8)}
    assert patterns == {(True, False, False, False), (False, True, True, True)}
    recipe = build_recipe(family, seen, options)
    hidden = []
    fill = recipe.networks["generator"].forward if family == "mm-gan" else recipe.diffusion.train_step

    def watched(given, *rest):
        hidden.extend((given if family == "mm-gan" else given["source"])[:, 4:, 0, 0].tolist())
        return fill(given, *rest)

    owner, name = (recipe.networks["generator"], "forward") if family == "mm-gan" else (recipe.diffusion, "train_step")
    setattr(owner, name, watched)
    recipe.train_step(next(training_batches(seen, 8)), lambda losses: None, 0.0)
    assert {tuple(each) for each in hidden} == {(1, -1, -1, -1), (-1, 1, 1, 1)}


def test_what_modalities_colours_are_is_stated_and_checked():
    colour = in_colour(blobs(8), "image")
    with pytest.warns(
        UserWarning, match=r"'image'\) count as 3 modalities.*folder sources/ next.*modalities=1,1,1 leaves"
    ):
        family_view("mm-gan", without(colour, "source"), tiny())
    family_view("mm-gan", without(colour, "source"), tiny(settings={"modalities": "1,1,1"}))
    for wrong in ("", "1,x", "4", "1,1", "3,1", "1,0,3", "2,2"):
        with pytest.raises(ConfigurationError, match=r"`modalities` must be .*4 in all.*--set modalities=1,3"):
            family_view("mm-gan", colour, tiny(settings={"modalities": wrong}))


def test_mm_gan_refuses_data_of_one_modality_and_ranges_apart():
    with pytest.raises(ConfigurationError, match=r"at least two modalities.*without sources"):
        family_view("mm-gan", without(blobs(), "source"), tiny())
    data = blobs()
    narrow = dataclasses.replace(data, fields={**data.fields, "source": FieldSpec((1, 16, 16), value_range=(0, 1))})
    with pytest.raises(ConfigurationError, match="ranges of one order"):
        family_view("mm-gan", narrow, tiny())


def test_the_view_of_inpaint_hides_lesions_and_leaves_out_images_without():
    data = blobs()
    samples = [dict(data.samples[k]) for k in range(len(data))]
    for k in (0, 3):
        samples[k]["mask"] = samples[k]["mask"] * 0
    data = dataclasses.replace(data, samples=samples)
    with pytest.warns(
        UserWarning, match="2 of 24 images of 'blobs' are left out: the mask of 2 marks nothing, that of 0"
    ):
        seen = family_view("inpaint", data, tiny(condition="mask"))
    assert len(seen) == len(data) - 2
    assert seen.ids[0] == "blob 1"
    for k in range(3):
        sample = seen.samples[k]
        hidden = sample["mask"] > 0
        assert torch.equal(sample["source"][:1][~hidden], sample["image"][~hidden])
        assert torch.equal(sample["source"][1:] == 100, hidden)
    anywhere = family_view("inpaint", data, tiny())
    assert len(anywhere) == len(data)
    assert 0 < (anywhere.samples[5]["source"][1] == 100).float().mean() < 0.5


@pytest.mark.parametrize(
    ("factor", "added", "got"),
    [(0, 0, "got 0 that cover all of the image and 24 empty ones"), (0, 1, "got 24 that cover all")],
)
def test_inpaint_refuses_masks_without_regions_or_surroundings(factor, added, got):
    data = blobs()
    masks = [{**data.samples[k], "mask": data.samples[k]["mask"] * factor + added} for k in range(len(data))]
    with pytest.raises(EmptyDatasetError, match=f"`mask` must mark a region.*{got}"):
        family_view("inpaint", dataclasses.replace(data, samples=masks), tiny(condition="mask"))


def test_inpaint_leaves_out_regions_without_surroundings_and_trains_on_the_others():
    pytest.importorskip("monai")
    data = blobs()
    samples = [dict(data.samples[k]) for k in range(len(data))]
    samples[2]["mask"] = torch.ones_like(samples[2]["mask"])
    data = dataclasses.replace(data, samples=samples)
    options = tiny(condition="mask", steps=1)
    with pytest.warns(UserWarning, match="the mask of 0 marks nothing, that of 1 all of the image"):
        seen = family_view("inpaint", data, options)
    assert len(seen) == len(data) - 1
    recipe = build_recipe("inpaint", seen, options)
    batch = next(training_batches(seen, 4, augment=False))
    batch["source"][0, 1:] = 1.0  # as after an augmentation that zooms in
    run = TrainingState(recipe, Accelerator(cpu=True), FitOptions())
    assert run.train_step(iter([batch]), 0.5)


def test_the_window_lies_around_the_region():
    images = torch.arange(64.0).view(1, 1, 8, 8)
    hidden = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    hidden[..., 6:8, 1] = True
    window = window_of(torch.cat([images, hidden], 1), hidden)
    assert window.shape == (1, 2, 4, 4)
    assert torch.equal(window[:, :1], images[..., 4:8, 0:4])
    assert window[:, 1].sum() == 2


def test_countersynth_sees_images_of_other_classes():
    data = blobs(classes=3)
    seen = family_view("countersynth", data, tiny(condition="label"))
    for k in range(9):
        sample = seen.samples[k]
        same = [j for j in range(len(data)) if torch.equal(data.samples[j]["image"], sample["source"])]
        assert same
        assert data.samples[same[0]]["label"] != sample["label"]
    one = dataclasses.replace(data, samples=[{**data.samples[k], "label": torch.tensor(1)} for k in range(6)])
    with pytest.raises(ConfigurationError, match="labels of at least two classes for countersynth, got 1"):
        family_view("countersynth", one, tiny(condition="label"))


@pytest.mark.parametrize(("family", "condition"), [("mm-ddpm", None), ("inpaint-ddpm", "mask")])
def test_a_diffusion_model_that_fills_keeps_what_is_given(tmp_path, family, condition):
    pytest.importorskip("monai")
    options = tiny(condition=condition, steps=3)
    loop = FitOptions(reports=1)
    made = fit(family, blobs(), tmp_path / "model", recipe=options, options=loop, device="cpu", progress=False)
    loaded = load_synthesizer(tmp_path / "model")
    assert loaded.fingerprint == made.synthesizer.fingerprint
    data = family_view(family, blobs(17), options)
    batch = SyntheticSequence(loaded, HeldOutConditions(data, given_fields(family, options))).batch([0, 1, 2, 3])
    channels = data.image_shape[0]
    values, marks = batch["source"][:, :channels], batch["source"][:, channels:] > 50
    hidden = marks.expand_as(values)
    assert torch.equal(batch["image"][~hidden], values[~hidden])
    assert (batch["image"][hidden] != values[hidden]).any()


def test_what_is_held_out_is_usable_however_rare():
    data = blobs(40)
    samples = [dict(data.samples[k]) for k in range(len(data))]
    for k, sample in enumerate(samples):
        sample["mask"] = sample["mask"] * (k in (3, 18, 30))
        sample["label"] = torch.tensor(int(k in (3, 18, 30)))
    data = dataclasses.replace(data, samples=samples)
    with pytest.warns(UserWarning, match="37 of 40 images") as warned:
        train, held_out = split_for("inpaint", data, tiny(condition="mask"))
    assert len(warned) == 1
    assert {*train.ids, *held_out.ids} == {"blob 3", "blob 18", "blob 30"}
    assert len(held_out) == 1
    for seed in range(3):
        parts = split_for("countersynth", data, tiny(condition="label"), seed)
        assert all(len(set(part.labels().tolist())) == 2 for part in parts)
        assert not set(parts[0].ids) & set(parts[1].ids)
    with pytest.raises(ConfigurationError, match="at least two classes"):
        split_for("countersynth", data.select(list(range(3))), tiny(condition="label"))


def test_a_split_of_the_user_whose_held_out_part_is_of_no_use_is_named():
    data = blobs()
    samples = [dict(data.samples[k]) for k in range(len(data))]
    for sample in samples[20:]:
        sample["mask"] = sample["mask"] * 0
    data = dataclasses.replace(data, samples=samples)
    with pytest.raises(EmptyDatasetError) as caught:
        given_split("inpaint", data.select(range(20)), data.select(range(20, 24)), tiny(condition="mask"))
    assert "These are the 4 held-out samples" in caught.value.__notes__[0]
