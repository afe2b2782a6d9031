"""Images painted on masks: a function of seed and mask, that moves no global random state in any thread."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from torchgenaug import LabelsToImageSynthesizer, SyntheticSequence, load_synthesizer, save_synthesizer
from torchgenaug.conditions import RealFields
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.function import global_generators
from torchgenaug.testing import SynthesizerConformance
from torchgenaug.types import FieldSpec

SPEC = FieldSpec((1, 16, 16), torch.int64, kind="label_map", value_range=(0, 2))


def masks(count):
    mask = torch.zeros(1, 16, 16, dtype=torch.int64)
    mask[:, 4:12, 4:12] = 1
    mask[:, 6:9, 6:9] = 2
    return torch.stack([mask.roll(k, -1) for k in range(count)])


class TestConformance(SynthesizerConformance):
    def make(self):
        return LabelsToImageSynthesizer(SPEC)

    def conditions(self, seeds):
        return {"mask": torch.stack([masks(8)[seed % 8] for seed in seeds])}


def test_every_class_has_a_brightness_of_its_own_in_each_sample():
    same = masks(1).repeat(20, 1, 1, 1)
    images = LabelsToImageSynthesizer(SPEC, std=(0.0, 0.0), then=lambda subject: subject).synthesize(
        range(20), {"mask": same}
    )["image"]
    means = torch.stack([images[same == each].view(20, -1).mean(1) for each in range(3)])
    assert all(float(images[same == each].view(20, -1).std(1).max()) < 1e-6 for each in range(3))
    assert float(means.min()) >= 0.1
    assert float(means.max()) <= 0.9
    assert len(means.flatten().unique()) == 60


def test_no_global_state_moves_and_threads_agree():
    synthesizer = LabelsToImageSynthesizer(SPEC)
    before = global_generators()
    expected = synthesizer.synthesize(range(4), {"mask": masks(4)})["image"]
    assert global_generators() == before
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: synthesizer.synthesize(range(4), {"mask": masks(4)})["image"], range(2)))
    assert global_generators() == before
    assert all(torch.equal(each, expected) for each in both)
    again = pickle.loads(pickle.dumps(synthesizer))
    assert again.fingerprint == synthesizer.fingerprint
    assert torch.equal(again.synthesize([3], {"mask": masks(4)[3:]})["image"], expected[3:])


def test_volumes_and_a_sequence():
    spec = FieldSpec((1, 8, 8, 8), torch.int64, kind="label_map", value_range=(0, 1))
    data = [
        {"mask": (torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(k)) > 0.5).long()} for k in range(3)
    ]
    sequence = SyntheticSequence(LabelsToImageSynthesizer(spec), RealFields(data, "mask"))
    batch = sequence.batch([0, 1])
    assert batch["image"].shape == batch["mask"].shape == (2, 1, 8, 8, 8)


def test_a_folder_holds_its_limits(tmp_path):
    synthesizer = LabelsToImageSynthesizer(SPEC, mean=(0.4, 0.6), std=(0.0, 0.02))
    save_synthesizer(synthesizer, tmp_path / "painted")
    loaded = load_synthesizer(tmp_path / "painted")
    assert loaded.fingerprint == synthesizer.fingerprint != LabelsToImageSynthesizer(SPEC).fingerprint
    expected = synthesizer.synthesize([7, 8], {"mask": masks(2)})["image"]
    assert torch.equal(loaded.synthesize([7, 8], {"mask": masks(2)})["image"], expected)


def test_code_cannot_be_saved(tmp_path):
    with pytest.raises(ConfigurationError, match="`then` must be left out"):
        save_synthesizer(LabelsToImageSynthesizer(SPEC, then=lambda subject: subject), tmp_path / "painted")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LabelsToImageSynthesizer(FieldSpec((1, 8, 8), value_range=(0, 1))), "`mask` must be the FieldSpec"),
        (lambda: LabelsToImageSynthesizer(SPEC, mean=(0.9, 0.1)), "`mean` must be two limits"),
        (lambda: LabelsToImageSynthesizer(SPEC).synthesize([0]), "must hold 'mask'"),
        (lambda: LabelsToImageSynthesizer(SPEC).synthesize([0], {"mask": masks(1) + 1}), "whole numbers from 0 to 2"),
    ],
)
def test_what_it_refuses(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()
