"""Planted overlaps are found by id, by patient and by content; clean splits raise no alarm."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from tests.trust.test_copy_detector import blobs
from torchgenaug import (
    ClassLabels,
    CombinedSource,
    EnsembleSynthesizer,
    SyntheticMixDataset,
    SyntheticPool,
    SyntheticSequence,
    keep_classes,
    render_shards,
)
from torchgenaug.errors import ConfigurationError, LeakError, UnknownOriginWarning
from torchgenaug.recipes import load_data
from torchgenaug.sources.in_memory import InMemorySource
from torchgenaug.testing import AnalyticSynthesizer
from torchgenaug.trust import check_leaks

RECORD = {"samples": ["a.png", "b.png"], "patients": ["p1", "p2"]}


class Scans(torch.utils.data.Dataset):
    """Images with names, as a user would write it."""

    def __init__(self, images, ids=None, patients=None):
        self.images = images
        if ids is not None:
            self.ids = ids
        if patients is not None:
            self.patients = patients

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], 0


def trained(record=RECORD, **arguments):
    model = AnalyticSynthesizer((16, 16), **arguments)
    model.trained_on = record
    return model


def test_found_by_id_and_patient():
    test = Scans(blobs(3, 1, (16, 16)), ["x.png", "b.png", "y.png"], ["p9", "p8", "p1"])
    report = check_leaks(trained(), {"test": test})
    assert [(leak.index, leak.kind, leak.seen_as) for leak in report.leaks] == [
        (1, "id", "b.png"),
        (2, "patient", "p1"),
    ]
    assert "1 samples of 'test' overlap by patient: index 2 (seen as p1)." in str(report)
    with pytest.raises(LeakError, match="overlap by id"):
        check_leaks(trained(), {"test": test}, strict=True)


def test_names_are_found_in_wrapped_data_sets():
    test = Scans(blobs(3, 1, (16, 16)), ["x.png", "b.png", "y.png"])
    assert check_leaks(trained(), {"test": Subset(test, [2, 1])}).leaks[0].index == 1
    assert check_leaks(trained(), {"test": ConcatDataset([test, test])}).leaks[1].index == 4
    dicts = [{"image": torch.rand(1, 16, 16), "patient": name} for name in ("p5", "p2")]
    assert check_leaks(trained(), {"test": dicts}).leaks[0].kind == "patient"


def test_found_by_content_under_another_name():
    train, test = blobs(60, 1), blobs(30, 2)
    test[4] = (train[17].flip(2) * 255).round() / 255
    report = check_leaks(None, {"test": Scans(test, [f"{k}.png" for k in range(30)])}, train=Scans(train))
    assert [(leak.index, leak.kind, leak.seen_as) for leak in report.leaks] == [(4, "content", "index 17")]


def test_synthetic_copies_of_test_images_are_found():
    source = InMemorySource(SyntheticSequence(trained()), 40)
    test = source.read(np.arange(40))["image"].clone()[5:8]
    report = check_leaks(source, {"test": test})
    assert {(leak.kind, leak.index) for leak in report.leaks} == {("synthetic content", k) for k in range(3)}


@pytest.mark.parametrize("seed", range(10))
def test_each_planted_overlap_is_found_and_clean_splits_are_silent(seed):
    """The campaign of 100 splits is ``python -m benchmarks copies``."""
    draw = torch.Generator().manual_seed(seed)
    images = blobs(120, 500 + seed, (16, 16))[torch.randperm(120, generator=draw)]
    train, test = images[:80], images[80:]
    assert not check_leaks(None, {"test": test}, train=train).leaks
    planted = int(torch.randint(40, (), generator=draw))
    test[planted] = (train[seed] * 63).round() / 63
    assert [leak.index for leak in check_leaks(None, {"test": test}, train=train).leaks] == [planted]


def test_unknown_origin():
    test = {"test": blobs(3, 1, (16, 16))}
    with pytest.warns(UnknownOriginWarning, match=r"synthesizer.trained_on = \{'samples'"):
        report = check_leaks(trained(None), test)
    assert report.not_compared[0].startswith("Ids and patients of the model were not compared")
    with pytest.raises(LeakError, match="without a record"):
        check_leaks(trained(None), test, strict=True)


def test_other_shapes_are_stated():
    report = check_leaks(None, {"test": blobs(3, 1, (16, 16))}, train=blobs(9, 2))
    assert "Content was not compared with 'test'" in report.not_compared[0]


def test_the_record_travels(tmp_path):
    """From the synthesizer through ensemble, sequence, pool, shards, selected and combined sources."""
    model = trained(num_classes=2)
    ensemble = EnsembleSynthesizer(
        {"one": model, "two": trained({"samples": ["c.png"], "patients": ["p3"]}, num_classes=2)}
    )
    sequence = SyntheticSequence(ensemble, ClassLabels(2))
    with SyntheticPool(sequence, 4, batch_size=2) as pool:
        assert pool.trained_on["samples"] == ["a.png", "b.png", "c.png"]
    shards = render_shards(sequence, tmp_path / "shards", 8, batch_size=4, progress=False)
    memory = InMemorySource(SyntheticSequence(trained({"samples": ["d.png"], "patients": []}), ClassLabels(2)), 4)
    for source in (shards, keep_classes(shards, [0])):
        assert source.trained_on["patients"] == ["p1", "p2", "p3"]
    other = InMemorySource(sequence, 4)
    assert CombinedSource([shards, other]).trained_on["samples"] == ["a.png", "b.png", "c.png"]
    assert memory.trained_on["samples"] == ["d.png"]
    unknown = InMemorySource(
        SyntheticSequence(EnsembleSynthesizer({"x": trained(None, num_classes=2)}), ClassLabels(2)), 4
    )
    assert CombinedSource([shards, unknown]).trained_on is None


def test_a_mix_refuses_held_out_data_that_it_trains_on():
    real, test = blobs(60, 1, (16, 16)), blobs(30, 2, (16, 16))
    source = InMemorySource(SyntheticSequence(trained()), 8)
    arguments = {"ratio": 0.5, "fields": ("image",)}
    mixed = SyntheticMixDataset(TensorDataset(real), source, held_out=TensorDataset(test), **arguments)
    assert len(mixed) == 60
    test[3] = real[5]
    with pytest.raises(LeakError, match=r"'held_out' overlap by content: index 3 \(seen as index 5\)"):
        SyntheticMixDataset(TensorDataset(real), source, held_out=TensorDataset(test), **arguments)
    scans = Scans(blobs(4, 3, (16, 16)), patients=["p7", "p1", "p8", "p9"])
    with pytest.raises(LeakError, match="'test' overlap by patient"):
        SyntheticMixDataset(TensorDataset(real), source, held_out={"test": scans}, **arguments)
    with pytest.raises(ConfigurationError, match="real samples only"):
        SyntheticMixDataset(TensorDataset(real), source, held_out=mixed, **arguments)


def test_samples_without_images():
    with pytest.raises(ConfigurationError, match="image_field"):
        check_leaks(None, {"test": [{"label": 1}]}, train=blobs(3, 1))


def test_two_folders_with_the_same_file_names_do_not_leak(tmp_path):
    draw = torch.Generator().manual_seed(0)
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
        for number in range(40):
            pixels = (torch.rand(16, 16, generator=draw) * 255).byte().numpy()
            Image.fromarray(pixels).save(tmp_path / folder / f"{number:03d}.png")
    shutil.copy(tmp_path / "train" / "007.png", tmp_path / "test" / "007.png")
    train, test = (load_data(str(tmp_path / folder)) for folder in ("train", "test"))
    report = check_leaks(None, {"test": test}, train=train)
    assert {(leak.kind, leak.index) for leak in report.leaks} == {("id", 7), ("content", 7)}
    assert report.not_compared == (
        "39 images of 'test' have the file name of a training image in another folder, not its content.",
    )


@pytest.mark.parametrize("with_train", [False, True])
def test_what_equal_names_do_not_prove_is_stated(tmp_path, with_train):
    for part, images in (("train", blobs(20, 1, (16, 16))), ("test", blobs(20, 2, (16, 16)))):
        for number, image in enumerate(images):
            place = tmp_path / part / f"sub-{number:02d}"
            place.mkdir(parents=True)
            Image.fromarray((image[0].numpy() * 255).astype(np.uint8)).save(place / f"sub-{number:02d}.png")
    train, test = load_data(tmp_path / "train"), load_data(tmp_path / "test")
    model = trained({"samples": list(train.ids), "patients": list(train.patients), "data": "train"})
    report = check_leaks(model, {"test": test}, train=train if with_train else None)
    kinds = {leak.kind for leak in report.leaks}
    assert kinds == ({"patient"} if with_train else {"id", "patient"})
    text = str(report)
    assert ("Give train= to compare it." in text) != with_train
    assert "number their patients alike" in text


def test_folders_are_told_apart_inside_joined_sets(tmp_path):
    for part, seed in (("train", 1), ("test", 2)):
        (tmp_path / part).mkdir()
        for number, image in enumerate(blobs(20, seed, (16, 16))):
            Image.fromarray((image[0].numpy() * 255).astype(np.uint8)).save(tmp_path / part / f"{number}.png")
    train, test = load_data(tmp_path / "train"), load_data(tmp_path / "test")
    joined = ConcatDataset([test, Subset(train, [3])])
    report = check_leaks(None, joined, train=ConcatDataset([Subset(train, range(20))]))
    assert {(leak.held_out, leak.index, leak.kind) for leak in report.leaks} == {
        ("held_out", 20, "id"),
        ("held_out", 20, "content"),
    }


def test_patients_of_one_part_of_an_ensemble_are_known():
    parts = {"one": trained(), "other": trained({"samples": ["c.png"]})}
    test = Scans(blobs(2, 1, (16, 16)), ["x.png", "c.png"], ["p1", "p9"])
    report = check_leaks(EnsembleSynthesizer(parts), {"test": test})
    assert [(leak.index, leak.kind) for leak in report.leaks] == [(1, "id"), (0, "patient")]


@pytest.mark.parametrize("record", ["digits", {}, {"samples": 5}, {"samples": "x.png"}])
def test_records_that_name_nobody_are_stated(record):
    report = check_leaks(trained(record), {"test": Scans(blobs(1, 1, (16, 16)), ["x"])})
    assert not report
    assert "its record names none" in str(report)


@pytest.mark.parametrize("held_out", [None, {"test": None}, {"test": "scans"}])
def test_what_is_no_data_set_is_named(held_out):
    with pytest.raises(ConfigurationError, match="must map names to data sets"):
        check_leaks(trained(), held_out)
