"""Splits by patient: whole patients, classes in proportion, the same whatever the order; saved and read back."""

import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.patient_split import SPLIT_NAME, anonymised, read_split, split_patients, write_split
from torchgenaug.recipes.data.training_data import TensorSamples, TrainingData
from torchgenaug.types import FieldSpec


def scans(patients=30, each=2, classes=3):
    """`each` images of every patient; classes are unequal: 1/2, 1/3, 1/6 of the patients."""
    names = [f"p{number:03d}" for number in range(patients) for _ in range(each)]
    labels = [(0, 0, 0, 1, 1, 2)[number % 6] % classes for number in range(patients) for _ in range(each)]
    samples = TensorSamples({"image": torch.rand(len(names), 1, 8, 8), "label": torch.tensor(labels)})
    fields = {
        "image": FieldSpec((1, 8, 8), value_range=(0, 1)),
        "label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, classes - 1)),
    }
    return TrainingData(samples, fields, tuple(f"{k}.png" for k in range(len(names))), "scans", tuple(names))


@pytest.mark.parametrize(("seed", "fraction"), [(0, 0.1), (1, 0.2), (0, 0.5)])
def test_whole_patients_in_proportion(seed, fraction):
    data = scans(60)
    train, others = split_patients(data, fraction, seed)
    assert not set(train.patients) & set(others.patients)
    assert len(set(others.patients)) == round(60 * fraction)
    for label, share in enumerate((30, 20, 10)):
        held = {each for each, own in zip(others.patients, others.labels(), strict=True) if own == label}
        assert abs(len(held) - share * fraction) <= 1


def test_deterministic_whatever_the_order():
    data = scans()
    turned = data.select(list(reversed(range(len(data)))))
    assert set(split_patients(data)[1].patients) == set(split_patients(turned)[1].patients)
    assert set(split_patients(data)[1].patients) != set(split_patients(data, seed=1)[1].patients)


def test_saved_and_read_back(tmp_path):
    data = scans()
    train, others = split_patients(data)
    write_split(tmp_path, train, others, 0.2, 0)
    again = read_split(tmp_path / SPLIT_NAME).of(data)
    assert (again[0].ids, again[1].ids) == (train.ids, others.ids)
    write_split(tmp_path, train, others, 0.2, 0)
    with pytest.raises(ConfigurationError, match="must keep its split"):
        write_split(tmp_path, *split_patients(data, seed=1), 0.2, 1)
    write_split(tmp_path, *split_patients(data, seed=1), 0.2, 1, fresh=True)
    with pytest.raises(ConfigurationError, match="and 2 that it does not know"):
        read_split(tmp_path).of(scans(31))


def test_anonymous_splits_name_nobody_and_fit_the_real_names(tmp_path):
    data = scans()
    train, others = split_patients(data)
    write_split(tmp_path, anonymised(train), anonymised(others), 0.2, 0)
    text = (tmp_path / SPLIT_NAME).read_text()
    assert "p000" not in text
    assert ".png" not in text
    assert read_split(tmp_path).of(data)[1].ids == others.ids


def test_damaged_files_and_folders_without_one(tmp_path):
    assert read_split(tmp_path) is None
    (tmp_path / SPLIT_NAME).write_text("{}")
    with pytest.raises(ConfigurationError, match="must be a split that"):
        read_split(tmp_path)


@pytest.mark.parametrize(
    ("data", "fraction", "message"),
    [
        (scans().select(range(4)), 1.0, "between 0 and 1"),
        (scans(1), 0.5, "must leave something to train on"),
    ],
)
def test_what_cannot_be_split(data, fraction, message):
    with pytest.raises(ConfigurationError, match=message):
        split_patients(data, fraction)


def test_unknown_patients_are_refused():
    from dataclasses import replace

    with pytest.raises(ConfigurationError, match="must state whose each sample is"):
        split_patients(replace(scans(), patients=()))
