"""Copies are generated again; pool, shards and sequence agree on what replaces them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from tests.trust.test_copy_detector import blobs
from torchgenaug import ConstantScreen, FieldSpec, FunctionSynthesizer, SyntheticPool, SyntheticSequence, render_shards
from torchgenaug.errors import BadSampleError, ConfigurationError
from torchgenaug.trust import CopyDetector, CopyScreen

TRAIN = blobs(60, 1, (16, 16))
DETECTOR = CopyDetector(TRAIN, blobs(99, 2, (16, 16)))


def memorising(seeds, conditions):
    """Every third seed gives a training image; the others an image of their own."""
    rows = [
        TRAIN[seed % 60].flip(1) if seed % 3 == 0 else blobs(1, seed % (1 << 31) + 1000, (16, 16))[0] for seed in seeds
    ]
    return {"image": torch.stack(rows)}


def all_copies(seeds, conditions):
    return {"image": TRAIN[[seed % 60 for seed in seeds]]}


def sequence_of(function, **arguments):
    model = FunctionSynthesizer(function, {"image": FieldSpec((1, 16, 16))}, fingerprint=function.__name__)
    return SyntheticSequence(model, screens=[ConstantScreen(), CopyScreen(DETECTOR, **arguments)])


def test_copies_are_replaced_and_others_stay():
    plain = SyntheticSequence(FunctionSynthesizer(memorising, {"image": FieldSpec((1, 16, 16))}, fingerprint="m"))
    before, after = plain.batch(range(24))["image"], sequence_of(memorising).batch(range(24))["image"]
    copies = DETECTOR(before).flagged
    assert copies.sum() >= 4
    assert not DETECTOR(after).flagged.any()
    assert torch.equal(before[~copies], after[~copies])


def test_a_redrawn_sample_does_not_depend_on_its_batch():
    sequence = sequence_of(memorising)
    together = sequence.batch(range(24))["image"]
    assert torch.equal(together[5:9], sequence.batch(range(5, 9))["image"])
    assert torch.equal(together, pickle.loads(pickle.dumps(sequence)).batch(range(24))["image"])


def test_pool_and_shards_agree(tmp_path):
    sequence = sequence_of(memorising)
    expected = sequence.batch(range(16))["image"]
    source = render_shards(sequence, tmp_path / "shards", 16, batch_size=8, progress=False)
    assert torch.equal(source.read(np.arange(16))["image"], expected)
    with SyntheticPool(sequence, 16, batch_size=4) as pool:
        assert torch.equal(pool.read(np.arange(16))["image"], expected)


def test_a_model_that_only_copies_is_refused():
    with pytest.raises(BadSampleError, match=r"after 2 redraws. The model has memorised") as caught:
        sequence_of(all_copies, redraws=2).batch([4, 5])
    assert caught.value.ids == (4, 5)
    with pytest.raises(BadSampleError):
        sequence_of(all_copies, redraws=0).batch([4])


def test_settings_are_part_of_the_fingerprint():
    assert sequence_of(memorising).fingerprint != sequence_of(memorising, redraws=3).fingerprint
    other = CopyScreen(CopyDetector(TRAIN, blobs(99, 3, (16, 16))))
    assert CopyScreen(DETECTOR).fingerprint != other.fingerprint


def test_a_detector_that_cannot_judge_is_refused():
    with pytest.raises(ConfigurationError, match="at least 99 held-out images"):
        CopyScreen(CopyDetector(TRAIN, TRAIN[:20]))
    with pytest.raises(ConfigurationError, match="`redraws` must be an integer"):
        CopyScreen(DETECTOR, redraws=-1)


@pytest.mark.parametrize("names", [{"field": "scan"}, {"label_field": "label"}])
def test_fields_that_the_samples_lack_are_named(names):
    with pytest.raises(ConfigurationError, match=r"must name fields of the samples \(image\), got "):
        sequence_of(memorising, **names).batch([0])
