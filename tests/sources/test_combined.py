from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shards_helpers import render, small_sequence
from torch.utils.data import DataLoader

from torchgenaug import FieldSpec, SyntheticMixDataset, SyntheticMixLoader, SyntheticPool, SyntheticSequence
from torchgenaug.errors import (
    ConfigurationError,
    EmptyDatasetError,
    FieldMismatchError,
    SampleIndexError,
    StateMismatchError,
)
from torchgenaug.sources import CombinedSource, SelectedSource
from torchgenaug.sources.shares import apportion
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource, SourceConformance


class Counting:
    """A source of so many samples, all of them their own number."""

    def __init__(self, size, base=0, fingerprint="a", fields=None):
        self.size, self.base, self.fingerprint = size, base, fingerprint * 64
        self.fields = fields or {"label": FieldSpec((), torch.int64, kind="scalar")}
        self.calls = 0

    def __len__(self):
        return self.size

    def read(self, positions):
        self.calls += 1
        return {"label": torch.from_numpy(positions + self.base)}

    def ids(self, positions):
        return positions

    def seeds(self, positions):
        return (positions + 1000 * self.base).astype(np.uint64)

    def column(self, field):
        self.calls += 1
        return torch.arange(self.size) + self.base


class ReadsOnly:
    """A source without what is optional."""

    def __init__(self, source):
        self._source = source
        self.read, self.ids, self.seeds, self.column = source.read, source.ids, source.seeds, source.column
        self.fields, self.fingerprint = source.fields, source.fingerprint

    def __len__(self):
        return len(self._source)


class TestTwoFoldersOfOneSequence(SourceConformance):
    """A combination of stretches of one sequence is a source of that sequence."""

    @pytest.fixture(autouse=True)
    def rendered(self, tmp_path):
        self.path = tmp_path

    def make(self):
        plain = render(self.path / "plain", 10)
        return CombinedSource([plain, render(self.path / "gzip", 6, compression="gzip")])

    def sequence(self):
        return small_sequence()


class TestWeighted(TestTwoFoldersOfOneSequence):
    def make(self):
        whole = super().make()
        return CombinedSource(whole.sources, weights=[1, 3])


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=5),
    weights=st.lists(st.floats(0.01, 10), min_size=5, max_size=5),
    length=st.none() | st.integers(1, 500),
)
def test_shares_are_exact_and_samples_used_equally_often(sizes, weights, length):
    weights = weights[: len(sizes)]
    combined = CombinedSource([Counting(size) for size in sizes], weights, length=length)
    parts, within = combined.locate(np.arange(len(combined)))
    total = sum(map(Fraction, weights))
    for part, size in enumerate(sizes):
        used = np.bincount(within[parts == part], minlength=size)
        assert len(used) == size
        assert abs(int(used.sum()) - len(combined) * Fraction(weights[part]) / total) < 1
        assert used.max() - used.min() <= 1
        assert length is not None or used.min() >= 1, "without a length, every sample is used"
    assert length is None or len(combined) == length


@given(length=st.integers(0, 10**6), weights=st.lists(st.fractions(0.001, 100), min_size=1, max_size=9))
def test_apportion_sums_up(length, weights):
    counts = apportion(length, weights)
    assert sum(counts) == length
    assert all(abs(count - length * weight / sum(weights)) < 1 for count, weight in zip(counts, weights, strict=True))


def test_unweighted_is_every_sample_once():
    combined = CombinedSource([Counting(3), Counting(2, base=10)])
    assert len(combined) == 5
    assert combined.read(np.array([4, 0, 3, 0]))["label"].tolist() == [11, 0, 10, 0]
    assert combined.column("label").tolist() == [0, 1, 2, 10, 11]


def test_one_read_per_source_that_is_needed():
    sources = [Counting(50), Counting(50, base=100), Counting(50, base=200)]
    combined = CombinedSource(sources)
    positions = np.random.default_rng(0).integers(0, 100, 64)
    assert combined.read(positions)["label"].tolist() == [int(p) if p < 50 else int(p) + 50 for p in positions]
    assert [source.calls for source in sources] == [1, 1, 0]


@pytest.mark.parametrize("positions", [[], [4], [5, 6], [7, 0, 6, 6, 2]])
def test_rows_are_read_into_what_is_there(tmp_path, positions):
    """From sources with and without a `read_into` of their own, nested, and all fields or some."""
    shards = render(tmp_path / "one", 5)
    only_read = SelectedSource(ReadsOnly(shards), [4, 0, 3])
    source = SelectedSource(CombinedSource([shards, only_read]), [7, 6, 5, 4, 3, 2, 1, 0])
    expected = source.read(np.array(positions, np.int64))
    out = {name: torch.full_like(values, 77) for name, values in expected.items()}
    source.read_into(np.array(positions, np.int64), out)
    assert all(torch.equal(out[name], values) for name, values in expected.items())
    some = {"label": torch.full_like(expected["label"], 77)}
    source.read_into(np.array(positions, np.int64), some)
    assert torch.equal(some["label"], expected["label"])


def test_ids_and_seeds_stay_those_of_the_origin(tmp_path):
    one, other = render(tmp_path / "one", 4), render(tmp_path / "other", 4, sequence=small_sequence(seed=6))
    combined = CombinedSource([one, other])
    positions = np.array([0, 5, 3, 7])
    assert combined.ids(positions).tolist() == [0, 1, 3, 3]
    expected = [one.seeds(np.array([0]))[0], other.seeds(np.array([1]))[0], one.seeds(np.array([3]))[0]]
    assert combined.seeds(positions).tolist() == [*map(int, expected), int(other.seeds(np.array([3]))[0])]
    assert combined.locate(positions)[0].tolist() == [0, 1, 0, 1]


def test_provenance_names_the_sequence_of_each_sample(tmp_path):
    one, other = render(tmp_path / "one", 4), render(tmp_path / "other", 4, sequence=small_sequence(seed=6))
    nested = SelectedSource(CombinedSource([one, CombinedSource([other, one])]), [11, 4, 0])
    assert nested.fingerprints(np.array([0, 1, 2])) == [one.fingerprint, other.fingerprint, one.fingerprint]
    real = [{"image": torch.linspace(0, 1, 64).view(1, 8, 8), "mask": torch.ones(1, 8, 8).long(), "label": 0}] * 3
    mixed = SyntheticMixDataset(real, nested, ratio=1.0, provenance=True)
    names = {sample["provenance"]["fingerprint"] for sample in (mixed[index] for index in range(3))}
    assert names == {one.fingerprint, other.fingerprint}
    loader = DataLoader(real, 3)
    (batch,) = SyntheticMixLoader(loader, nested, ratio=0.5, provenance=True)
    assert set(batch["provenance"]["fingerprint"]) <= names | {""}
    assert set(batch["provenance"]["fingerprint"]) & names


def test_fingerprint_names_the_whole_mix():
    def fingerprint(*names, weights=None):
        return CombinedSource([Counting(2, fingerprint=name) for name in names], weights).fingerprint

    assert fingerprint("a", "a") == "a" * 64, "one sequence stays one sequence"
    different = {fingerprint("a", "b"), fingerprint("b", "a"), fingerprint("a", "b", weights=[1, 2]), "a" * 64}
    assert len(different) == 4
    assert all(len(name) == 64 for name in different)


def test_pools_move_on_and_the_rest_is_asked_once():
    sequence = small_sequence()
    still = Counting(4, fields=sequence.fields)
    with SyntheticPool(sequence, 8, refresh=0.5, batch_size=4, background=False) as pool:
        combined = CombinedSource([still, pool])
        assert combined.changes
        for epoch in range(3):
            combined.set_epoch(epoch)
            assert combined.ids(np.array([4, 11])).tolist() == [4 * epoch, 4 * epoch + 7]
            assert torch.equal(combined.column("label")[4:], pool.column("label"))
        assert still.calls == 1
        with pytest.raises(ConfigurationError, match=r"same samples in every epoch.*ClassLabels"):
            SelectedSource(combined, [0])
    assert not CombinedSource([still]).changes


def test_pools_that_are_not_at_the_epoch_of_the_mix_are_noticed():
    sequence = small_sequence()
    with SyntheticPool(sequence, 4, batch_size=4) as one, SyntheticPool(sequence, 4, batch_size=4) as other:
        both = CombinedSource([one, other, Counting(4, fields=sequence.fields)])
        assert both.epoch == 0
        real = [{name: values[0] for name, values in sequence.batch([0]).items()}] * 8
        mixed = SyntheticMixDataset(real, both, 0.5)
        one.set_epoch(2)
        assert both.epoch == -1
        with pytest.raises(StateMismatchError, match="must be at the epoch of the mix, 0, got -1"):
            mixed.__getitems__(range(8))
        assert CombinedSource([Counting(4), Counting(2)]).epoch is None


def test_in_a_mixed_data_set_with_workers(tmp_path):
    one, other = render(tmp_path / "one", 8), render(tmp_path / "other", 8, sequence=small_sequence(seed=6))
    ramp = torch.linspace(0, 1, 64).view(1, 8, 8)
    real = [{"image": ramp, "mask": (ramp > 0.5).long(), "label": k % 3} for k in range(20)]
    combined = CombinedSource([one, other], weights=[3, 1])
    mixed = SyntheticMixDataset(real, combined, ratio=0.5, match="label")
    alone = [mixed[index] for index in range(20)]
    loader = DataLoader(mixed, 5, num_workers=2, multiprocessing_context="fork")
    images = torch.cat([batch["image"] for batch in loader])
    assert torch.equal(images, torch.stack([sample["image"] for sample in alone]))
    assert sum(not torch.equal(image, ramp) for image in images) == 10


def test_ranges_are_united_and_other_differences_refused():
    def source(**changes):
        return Counting(2, fields={"image": FieldSpec(**({"shape": (1, 4)} | changes))})

    ranges = CombinedSource([source(value_range=(0, 1)), source(value_range=(-1, 0.5))]).fields["image"].value_range
    assert ranges == (-1, 1)
    assert CombinedSource([source(value_range=(0, 1)), source()]).fields["image"].value_range is None
    for changed in ({"shape": (1, 5)}, {"dtype": torch.float64}, {"kind": "scalar"}):
        with pytest.raises(FieldMismatchError, match=r"'image': intensity \(1, 4\) float32 in source 0, .*source 1"):
            CombinedSource([source(), source(**changed)])
    with pytest.raises(FieldMismatchError, match="'label': absent in source 0"):
        CombinedSource([source(), Counting(2)])


@pytest.mark.parametrize(
    ("weights", "length", "message"),
    [
        ([1], None, r"`weights` must be 2 positive, finite numbers, got \[1\]"),
        ([1, 0], None, "Leave out what has no weight"),
        ([1, -1], None, "positive"),
        ([1, float("nan")], None, "finite"),
        ([1, float("inf")], None, "finite"),
        ([1, "x"], None, "got .*'x'"),
        ([1, 1e-30], None, r"`length` must be .*very unequal weights"),
        ([1, 1], 0, "`length` must be an integer"),
        ([1, 1], True, "`length` must be an integer"),
        ([1, 1], 2.0, "`length` must be an integer"),
        (None, 5, "`length` must be None without weights"),
    ],
)
def test_bad_arguments(weights, length, message):
    with pytest.raises(ConfigurationError, match=message):
        CombinedSource([Counting(2), Counting(3)], weights, length=length)


def test_nothing_to_combine():
    for sources in ([], [Counting(0)], [Counting(2), Counting(0)]):
        with pytest.raises(EmptyDatasetError, match="at least one sample each"):
            CombinedSource(sources)


@pytest.mark.parametrize("positions", [[5], [-1], [0.5], [[0]]])
def test_bad_positions(positions):
    combined = CombinedSource([Counting(3), Counting(2)])
    for call in (combined.read, combined.ids, combined.seeds):
        with pytest.raises(SampleIndexError, match="`positions` must be"):
            call(np.array(positions))


def test_pickle_does_not_grow_with_length():
    sources = [Counting(10**6), Counting(10**6)]
    assert len(pickle.dumps(CombinedSource(sources, [1, 1000]))) < 3000


def test_in_memory_sources_combine():
    sequence = SyntheticSequence(AnalyticSynthesizer((4, 4)), seed=3)
    combined = CombinedSource([InMemorySource(sequence, 3), InMemorySource(sequence, 2)])
    assert torch.equal(combined.read(np.array([3]))["image"], sequence.batch([0])["image"])
    assert repr(combined).startswith("CombinedSource(3 of ")
