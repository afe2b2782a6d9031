from __future__ import annotations

import numpy as np
import torch
import torchio as tio

from torchgenaug import ClassLabels, RealFields, SyntheticMixDataset, SyntheticSequence
from torchgenaug.mixing import provenance
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource


def test_attaching_does_not_touch_the_original():
    origin = provenance.of_real(3)
    sample = {"image": torch.rand(1, 4, 4)}
    assert provenance.attach_to_one(sample, "dict", origin)["provenance"] == origin
    assert list(sample) == ["image"]
    subject = tio.Subject(image=tio.ScalarImage(tensor=torch.rand(1, 4, 4, 1)))
    assert provenance.attach_to_one(subject, "subject", origin)["provenance"] == origin
    assert "provenance" not in subject
    assert provenance.attach_to_one((1, 2), "tuple", origin) == (1, 2, origin)
    assert provenance.attach_to_one([1, 2], "list", origin) == [1, 2, origin]
    assert provenance.attach_to_one(1, "tensor", origin) == (1, origin)


def test_a_synthetic_sample_names_sequence_id_and_seed():
    sequence = SyntheticSequence(AnalyticSynthesizer((8, 8), num_classes=2), ClassLabels(2))
    origin = provenance.of_synthetic(InMemorySource(sequence, 5), [4], {})[0]
    assert origin["is_synthetic"]
    assert (origin["index"], origin["id"], origin["parent"]) == (-1, 4, -1)
    assert int(origin["seed"], 16) == int(sequence.seeds([4])[0])
    assert origin["fingerprint"] == sequence.fingerprint


def test_a_sample_made_from_a_real_field_names_its_parent():
    real = [{"mask": torch.full((1, 8, 8), k)} for k in range(6)]
    conditions = RealFields(real, ["mask"])
    sequence = SyntheticSequence(ImageOfMask(), conditions, screens=())
    source = InMemorySource(sequence, 6)
    for position in range(6):
        origin = provenance.of_synthetic(source, [position], source.read(np.array([position])))[0]
        assert source.read(torch.tensor([position]).numpy())["mask"].unique().tolist() == [origin["parent"]]


class ImageOfMask:
    """mask → image, as a conditional generator would."""

    fingerprint = "1" * 64

    @property
    def fields(self):
        return {"image": AnalyticSynthesizer((8, 8)).fields["image"]}

    def synthesize(self, seeds, conditions=None):
        return {"image": conditions["mask"].float() / 10}


def test_provenance_does_not_read_images_again():
    """The read statistics of a pool, and the disk, know one read per sample."""
    real = [{"image": torch.linspace(0, 1, 64).reshape(1, 8, 8), "mask": torch.full((1, 8, 8), k)} for k in range(6)]
    source = InMemorySource(SyntheticSequence(ImageOfMask(), RealFields(real, ["mask"]), screens=()), 6)
    rows, read = [], source.read
    source.read = lambda positions: rows.extend(positions.tolist()) or read(positions)
    mixed = SyntheticMixDataset(real, source, 0.5, provenance=True)
    samples = mixed.__getitems__(range(6))
    assert len(rows) == 3
    for sample in samples:
        origin = sample["provenance"]
        if origin["is_synthetic"]:
            assert sample["mask"].unique().tolist() == [origin["parent"]]
