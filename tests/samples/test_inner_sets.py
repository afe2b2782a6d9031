"""Data sets are found inside others, whatever the attribute is called, and without a call of their code."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from torchgenaug.samples.inner_sets import find_inside, inner_sets

WANTED = TensorDataset(torch.zeros(4, 1))


class Own(Dataset):
    def __init__(self, inner):
        self.whatever = inner
        self.number, self.text = 3, "text"

    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise AssertionError("nothing is read")

    def __getattr__(self, name):
        raise AssertionError("no code of the data set is called")


class Slots:
    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner

    def __getitem__(self, index):
        raise AssertionError("nothing is read")


@pytest.mark.parametrize(
    "wrap",
    [
        Own,
        Slots,
        lambda part: Own({"a": [part]}),
        lambda part: Own(Own(Slots(part))),
        lambda part: Subset(Own(part), [0]),
        lambda part: ConcatDataset([Own(part)]),
        lambda part: DataLoader(Own(part), batch_size=2),
    ],
)
def test_finds(wrap):
    assert find_inside(wrap(WANTED), (TensorDataset,)) is WANTED
    assert find_inside(wrap([1, 2]), (TensorDataset,)) is None


def test_a_data_set_that_holds_itself_and_long_lists_end_soon():
    circle = Own(None)
    circle.whatever = [circle] + [{"image": torch.zeros(1)} for _ in range(100_000)]
    assert find_inside(circle, (TensorDataset,)) is None


def test_what_is_no_data_set_is_not_entered():
    class Trainer:
        def __init__(self):
            self.train = WANTED

    assert not list(inner_sets(Trainer()))
    assert not list(inner_sets(torch.nn.Sequential(torch.nn.Linear(1, 1))))


def test_lazy_mappings_are_not_read():
    from collections.abc import Mapping

    class File(Mapping):
        def __getitem__(self, name):
            raise AssertionError("nothing is read")

        def __iter__(self):
            raise AssertionError("nothing is listed")

        def __len__(self):
            return 1

    assert find_inside(Own(File()), (TensorDataset,)) is None
