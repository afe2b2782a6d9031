from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, default_collate

from torchgenaug import SyntheticMixDataset, SyntheticSequence
from torchgenaug.errors import ConfigurationError
from torchgenaug.sources.rows import Row, Rows
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

SOURCE = InMemorySource(SyntheticSequence(AnalyticSynthesizer((4, 4))), 12)
ORDER = [5, 0, 11, 5]


def stacked(rows):
    """What the samples would give as plain dicts."""
    return default_collate([dict(row) for row in rows])


def same(found, expected):
    assert type(found) is dict
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_the_batch_is_handed_out_without_a_copy():
    rows = SOURCE.__getitems__(ORDER)
    batch = default_collate(rows)
    same(batch, SOURCE.read(np.array(ORDER)))
    assert all(batch[name].data_ptr() == rows[0][name].data_ptr() for name in batch)


def test_samples_are_those_of_single_indices():
    rows = SOURCE.__getitems__(ORDER)
    for index, row, again in zip(ORDER, rows, rows, strict=True):
        assert isinstance(row, dict)
        assert row is again
        assert all(torch.equal(row[name], value) for name, value in SOURCE[index].items())
    assert rows[-1] is rows[3]
    assert rows[1:3] == [rows[1], rows[2]]
    with pytest.raises(IndexError):
        rows[4]


def replaced(rows):
    rows[2]["image"] = torch.zeros(1, 4, 4)


def replaced_after_all_were_seen(rows):
    list(rows)
    rows[2]["image"] = torch.zeros(1, 4, 4)


def exchanged(rows):
    rows[0]["image"], rows[1]["image"] = rows[1]["image"], rows[0]["image"]


def written_to(rows):
    rows[1]["image"].fill_(7)


def reshaped_in_place(rows):
    for row in rows:
        row["image"].unsqueeze_(0)


def turned_in_place(rows):
    for row in rows:
        row["image"].transpose_(1, 2)


def added(rows):
    for row in rows:
        row["age"] = torch.tensor(3)


def removed(rows):
    for row in rows:
        del row["mask"]


def retyped(rows):
    for row in rows:
        row["image"] = row["image"].double()


@pytest.mark.parametrize(
    "change",
    [
        replaced,
        replaced_after_all_were_seen,
        exchanged,
        written_to,
        reshaped_in_place,
        turned_in_place,
        added,
        removed,
        retyped,
    ],
)
def test_changes_are_in_the_batch(change):
    rows = SOURCE.__getitems__(ORDER)
    change(rows)
    same(default_collate(rows), stacked(rows))


def test_lists_of_rows_are_stacked():
    rows, others = SOURCE.__getitems__(ORDER), SOURCE.__getitems__([1, 2])
    mixed = [rows[1], others[0], SOURCE[3]]
    same(default_collate(mixed), stacked(mixed))
    same(default_collate(list(rows)), stacked(rows))
    nested = [(row, place) for place, row in enumerate(rows)]
    batch, places = default_collate(nested)
    same(batch, stacked(rows))
    assert places.tolist() == [0, 1, 2, 3]


def test_copied_and_pickled_they_are_plain():
    rows = SOURCE.__getitems__(ORDER)
    assert type(rows[0]) is Row
    for other in (copy.copy(rows[0]), copy.deepcopy(rows[0]), pickle.loads(pickle.dumps(rows[0]))):
        assert type(other) is dict
    listed = pickle.loads(pickle.dumps(rows))
    assert type(listed) is list
    same(default_collate(listed), stacked(rows))
    assert isinstance(copy.deepcopy(rows), list)


def test_batches_that_are_views_themselves():
    whole = torch.rand(5, 2, 3)
    rows = Rows({"image": whole[1:4], "number": torch.arange(10)[2:8:2]})
    list(rows)
    same(default_collate(rows), {"image": whole[1:4], "number": torch.tensor([2, 4, 6])})


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_reads_the_samples(workers):
    loader = DataLoader(Subset(SOURCE, range(1, 12)), batch_size=4, num_workers=workers)
    batches = list(loader)
    assert [len(batch["image"]) for batch in batches] == [4, 4, 3]
    expected = SOURCE.read(np.arange(1, 12))
    same({name: torch.cat([batch[name] for batch in batches]) for name in expected}, expected)


def test_a_source_in_a_mix():
    mixed = SyntheticMixDataset([SOURCE[k] for k in range(12)], SOURCE, 0.5)
    batch = next(iter(DataLoader(mixed, batch_size=12)))
    assert type(batch) is dict
    assert batch["image"].shape == (12, 1, 4, 4)
    single = default_collate([mixed[k] for k in range(12)])
    same(batch, single)


def test_no_indices_no_samples():
    assert list(SOURCE.__getitems__([])) == []


@pytest.mark.parametrize("wrap", [lambda part: part, lambda part: Subset(part, [0]), lambda part: part + part])
def test_a_source_is_no_real_data(wrap):
    with pytest.raises(ConfigurationError, match="Its synthetic samples would be called real"):
        SyntheticMixDataset(wrap(SOURCE), SOURCE, 0.5)
