from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torchio as tio

from torchgenaug import RealFields, SyntheticMixDataset, SyntheticSequence, TransformedSynthesizer, render_shards
from torchgenaug.errors import BadSampleError, ConfigurationError, FieldMismatchError
from torchgenaug.testing import SynthesizerConformance


def sample(k):
    """An image whose bright corner its mask marks."""
    mask = torch.zeros(1, 8, 8, dtype=torch.int64)
    mask[:, :4, :4] = 1
    return {"image": mask.float() * (k + 1), "mask": mask, "label": k % 2}


REAL = [sample(k) for k in range(5)]
ORIGINALS = RealFields(REAL, ["image", "mask", "label"])


def brighter(fields):
    return {**fields, "image": fields["image"] + torch.rand(1)}


def synthesizer(transform=brighter, originals=ORIGINALS, **options):
    return TransformedSynthesizer(transform, originals, fingerprint="test 1", **options)


class TestConformance(SynthesizerConformance):
    tolerance = 0.0

    def make(self):
        return synthesizer(tio.RandomNoise())

    def conditions(self, seeds):
        return ORIGINALS([0] * len(seeds))


def test_n_variants_of_each_real_sample_are_rendered_with_their_parents(tmp_path):
    sequence = SyntheticSequence(synthesizer(), ORIGINALS)
    source = render_shards(sequence, tmp_path / "shards", 3 * len(REAL), batch_size=4, progress=False)
    batch = source.read(np.arange(15))
    parents = batch["parent"]
    assert torch.bincount(parents).tolist() == [3] * 5
    assert torch.equal(batch["image"].amax((1, 2, 3)).floor().long(), parents + 1)
    assert torch.equal(batch["label"], parents % 2)
    assert len(set(batch["image"].amax((1, 2, 3)).tolist())) == 15


def test_mixed_samples_name_their_parent(tmp_path):
    originals = RealFields(REAL, ["image", "mask", "label"])
    source = render_shards(SyntheticSequence(synthesizer(), originals), tmp_path / "shards", 5, progress=False)
    mixed = SyntheticMixDataset(REAL, source, 1.0, provenance=True)
    for one in mixed:
        assert one["provenance"]["is_synthetic"]
        assert int(one["image"].max()) == one["provenance"]["parent"] + 1


def test_image_and_mask_move_together_and_labels_stay():
    flip = tio.RandomFlip(axes=(0, 1), flip_probability=0.5)
    batch = SyntheticSequence(synthesizer(flip), ORIGINALS).batch(range(20))
    assert torch.equal((batch["image"] > 0).long(), batch["mask"])
    assert len({tuple(mask.flatten().tolist()) for mask in batch["mask"]}) == 4
    assert batch["mask"].dtype == torch.int64
    assert torch.equal(batch["label"], batch["parent"] % 2)


def test_a_variant_depends_on_its_seed_and_its_original_alone():
    sequence = SyntheticSequence(synthesizer(tio.RandomNoise()), ORIGINALS)
    torch.manual_seed(0)
    whole = sequence.batch(range(10))["image"]
    torch.manual_seed(1)
    assert torch.equal(torch.cat([sequence.batch([k])["image"] for k in range(10)]), whole)


def test_global_random_state_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    SyntheticSequence(synthesizer(), ORIGINALS).batch(range(3))
    assert torch.equal(torch.rand(1), expected)


def test_originals_are_not_changed():
    def zeroed(fields):
        fields["image"] = fields["image"] * 0 + torch.linspace(0, 1, 8)
        return fields

    SyntheticSequence(synthesizer(zeroed), ORIGINALS).batch(range(5))
    assert all(torch.equal(real["image"], sample(k)["image"]) for k, real in enumerate(REAL))


def test_shapes_and_dtypes_are_those_of_the_transformed_samples():
    resized = synthesizer(tio.Resize((4, 4, 1)), value_range=(0, 9))
    assert resized.fields["image"].shape == (1, 4, 4)
    assert resized.fields["mask"].shape == (1, 4, 4)
    assert resized.fields["image"].value_range == (0, 9)
    assert resized.fields["mask"].value_range is None
    assert resized.fields["label"].shape == ()
    assert "parent" not in resized.fields


def test_volumes():
    volumes = RealFields([{"image": torch.rand(1, 6, 5, 4)}], "image")
    batch = SyntheticSequence(synthesizer(tio.RandomAffine(), volumes), volumes).batch([0, 1])
    assert batch["image"].shape == (2, 1, 6, 5, 4)


def test_pickles():
    copy = pickle.loads(pickle.dumps(synthesizer()))
    mine = SyntheticSequence(synthesizer(), ORIGINALS).batch(range(3))
    assert torch.equal(SyntheticSequence(copy, ORIGINALS).batch(range(3))["image"], mine["image"])


def test_fingerprint_is_that_of_the_text():
    other = TransformedSynthesizer(brighter, ORIGINALS, fingerprint="test 2")
    assert synthesizer().fingerprint == synthesizer(tio.RandomNoise()).fingerprint != other.fingerprint


def test_values_outside_the_stated_range_are_an_error():
    with pytest.raises(BadSampleError, match="must stay in"):
        SyntheticSequence(synthesizer(value_range=(0, 1)), ORIGINALS).batch(range(5))


def test_variants_of_different_shapes_are_an_error():
    def cropped(fields):
        size = 4 + int(torch.randint(5, ()))
        return {**fields, "image": fields["image"][:, :size]}

    with pytest.raises(FieldMismatchError, match=r"shape .* every time"):
        SyntheticSequence(synthesizer(cropped), ORIGINALS).batch(range(20))


@pytest.mark.parametrize("transform", [lambda fields: {"image": fields["image"]}, lambda fields: fields["image"]])
def test_dropped_fields_are_an_error(transform):
    with pytest.raises(FieldMismatchError, match="must return the fields"):
        synthesizer(transform)


def test_masks_without_channels_are_refused_where_they_would_not_move():
    bare = RealFields([{"image": torch.rand(1, 8, 8), "mask": torch.ones(8, 8).long()}], ["image", "mask"])
    with pytest.raises(ConfigurationError, match="with two axes"):
        synthesizer(tio.RandomFlip(), bare)
    assert synthesizer(brighter, bare).fields["mask"].shape == (8, 8)


@pytest.mark.parametrize(("options", "match"), [
    ({"fingerprint": " "}, "`fingerprint` must be"),
    ({"originals": lambda ids: {}}, "`originals` must be"),
    ({"transform": 3}, "must be a function"),
])  # fmt: skip
def test_bad_arguments(options, match):
    arguments = {"transform": brighter, "originals": ORIGINALS, "fingerprint": "x"} | options
    with pytest.raises(ConfigurationError, match=match):
        TransformedSynthesizer(arguments.pop("transform"), arguments.pop("originals"), **arguments)


def test_a_sequence_without_the_originals_is_an_error():
    with pytest.raises(ConfigurationError, match="the same originals"):
        SyntheticSequence(synthesizer()).batch([0])
