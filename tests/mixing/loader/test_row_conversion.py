"""Rows of a loader are converted by the rules of samples, and what would lose something is refused."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from torchgenaug import FieldSpec, FunctionSynthesizer, SyntheticMixDataset, SyntheticMixLoader, SyntheticSequence
from torchgenaug.errors import FieldMismatchError
from torchgenaug.testing import InMemorySource

FIELDS = {
    "image": FieldSpec((1, 4, 4), value_range=(0, 1)),
    "mask": FieldSpec((1, 4, 4), torch.int64, kind="label_map"),
    "label": FieldSpec((), torch.int64, kind="scalar"),
}


def source(value=1):
    """Six samples of class 2, in the types of a synthesizer."""

    def model(seeds, conditions):
        count = len(seeds)
        return {
            "image": torch.linspace(0, 1, 16).reshape(1, 1, 4, 4).repeat(count, 1, 1, 1),
            "mask": torch.full((count, 1, 4, 4), value),
            "label": torch.full((count,), 2),
        }

    return InMemorySource(SyntheticSequence(FunctionSynthesizer(model, FIELDS, fingerprint="six")), 6)


class Real(Dataset):
    def __init__(self, **values):
        self.values = values

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {name: value.clone() for name, value in self.values.items()}


REAL = {
    "image": torch.linspace(0, 1, 16).reshape(1, 4, 4),
    "mask": torch.zeros(1, 4, 4, dtype=torch.int64),
    "label": torch.tensor(1),
}
LOSSLESS = [
    {"mask": torch.zeros(1, 4, 4, dtype=torch.uint8)},
    {"mask": torch.zeros(4, 4)},
    {"mask": torch.zeros(1, 4, 4, dtype=torch.bool)},
    {"label": torch.tensor([1.0])},
    {"label": torch.tensor([0.0, 1.0, 0.0])},
    {"image": torch.zeros(1, 4, 4, dtype=torch.float64)},
    {"image": torch.zeros(1, 4, 4, dtype=torch.uint8), "label": torch.tensor([1])},
    {"image": torch.zeros(4, 4, 1)},
]


@pytest.mark.filterwarnings("ignore::torchgenaug.errors.IntensityMismatchWarning")
@pytest.mark.parametrize("real", LOSSLESS, ids=lambda real: ", ".join(f"{k} {v.dtype}" for k, v in real.items()))
def test_rows_become_what_samples_become(real, caplog):
    real = Real(**REAL | real)
    samples = [each for each in iter_samples(SyntheticMixDataset(real, source(), 0.5, provenance=True)) if each]
    caplog.clear()
    batches = list(SyntheticMixLoader(DataLoader(real, 4), source(), 0.5, provenance=True))
    for batch in batches:
        rows = batch["provenance"]["is_synthetic"].nonzero().flatten().tolist()
        assert len(rows) == 2
        for name in REAL:
            assert batch[name].dtype == samples[0][name].dtype
            assert all(torch.equal(batch[name][row], samples[0][name]) for row in rows)
    assert sum("is converted" in record.message for record in caplog.records) == 1


def iter_samples(mixed):
    for index in range(len(mixed)):
        sample = mixed[index]
        yield sample if sample["provenance"]["is_synthetic"] else None


@pytest.mark.parametrize(
    ("real", "message"),
    [
        ({"image": torch.zeros(1, 5, 4)}, r"'image': real \(1, 5, 4\) torch.float32, synthetic \(1, 4, 4\)"),
        ({"label": torch.zeros(2)}, "'label'"),
        ({"image": torch.zeros(1, 4, 4, dtype=torch.bool)}, "'image': real .* torch.bool"),
    ],
)
def test_what_would_lose_something_is_refused(real, message):
    with pytest.raises(FieldMismatchError, match=message):
        next(iter(SyntheticMixLoader(DataLoader(Real(**REAL | real), 4), source(), 0.5)))


def test_a_value_that_the_real_dtype_cannot_hold_is_an_error():
    loader = DataLoader(Real(**REAL | {"mask": torch.zeros(1, 4, 4, dtype=torch.uint8)}), 4)
    with pytest.raises(FieldMismatchError, match=r"must hold values that uint8.*got 300"):
        list(SyntheticMixLoader(loader, source(300), 0.5))
