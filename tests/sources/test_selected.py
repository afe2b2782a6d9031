from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shards_helpers import render, small_sequence

from torchgenaug import FieldSpec, SyntheticPool
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, SampleIndexError
from torchgenaug.sources import CombinedSource, SelectedSource, balance_classes, keep_classes
from torchgenaug.testing import SourceConformance


class Labels:
    """A source of nothing but these labels."""

    fingerprint = "a" * 64

    def __init__(self, labels):
        self.labels = torch.tensor(labels)
        self.fields = {"label": FieldSpec((), torch.int64, kind="scalar")}

    def __len__(self):
        return len(self.labels)

    def read(self, positions):
        return {"label": self.labels[torch.from_numpy(positions)]}

    def ids(self, positions):
        return positions

    def seeds(self, positions):
        return positions.astype(np.uint64)

    def column(self, field):
        return self.labels


class TestKept(SourceConformance):
    @pytest.fixture(autouse=True)
    def rendered(self, tmp_path):
        self.source = render(tmp_path / "shards")

    def make(self):
        return keep_classes(self.source, [0, 2])

    def sequence(self):
        return small_sequence()


class TestBalanced(TestKept):
    def make(self):
        return balance_classes(self.source, weights={0: 1, 1: 2})


class TestBalancedCombination(TestKept):
    def make(self):
        return balance_classes(keep_classes(CombinedSource([self.source, self.source]), {1, 2}))


labels = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@given(labels=labels, keep=st.sets(st.integers(0, 5), min_size=1))
def test_exactly_the_kept_classes_in_their_order(labels, keep):
    expected = [k for k, label in enumerate(labels) if label in keep]
    if expected:
        kept = keep_classes(Labels(labels), keep)
        assert kept.ids(np.arange(len(kept))).tolist() == expected
    else:
        with pytest.raises(EmptyDatasetError, match=r"`keep` must name at least one value of 'label' .*holds \["):
            keep_classes(Labels(labels), keep)


@given(labels=labels, weighted=st.booleans(), length=st.none() | st.integers(1, 200), data=st.data())
def test_balance_is_exact_and_samples_are_used_equally_often(labels, weighted, length, data):
    classes = sorted(set(labels))
    weights = {kind: data.draw(st.floats(0.05, 5)) for kind in classes} if weighted else None
    balanced = balance_classes(Labels(labels), weights=weights, length=length)
    used = np.bincount(balanced.ids(np.arange(len(balanced))), minlength=len(labels))
    shares = weights or dict.fromkeys(classes, 1.0)
    total = sum(map(Fraction, shares.values()))
    for kind, share in shares.items():
        of_kind = used[np.array(labels) == kind]
        assert abs(int(of_kind.sum()) - len(balanced) * Fraction(share) / total) < 1
        assert of_kind.max() - of_kind.min() <= 1
        assert length is not None or of_kind.min() >= 1, "without a length, no sample is lost"


def test_same_choice_in_every_process():
    source = Labels([0, 1, 1, 2, 0, 0])
    assert balance_classes(source).positions.tolist() == [0, 4, 5, 1, 2, 1, 3, 3, 3]
    copy = pickle.loads(pickle.dumps(balance_classes(source)))
    assert copy.positions.tolist() == balance_classes(source).positions.tolist()
    assert copy.fingerprint == source.fingerprint


def test_floating_point_fields_can_be_kept():
    source = Labels([0.0, 0.5, 1.0, 0.5])
    assert keep_classes(source, [0.5]).positions.tolist() == [1, 3]


def test_the_choice_is_its_own():
    positions = np.array([1, 0])
    selected = SelectedSource(Labels([5, 6]), positions)
    positions[:] = 0
    assert selected.column("label").tolist() == [6, 5]


def test_pools_are_refused_with_the_remedy():
    with SyntheticPool(small_sequence(), 8, batch_size=4, background=False) as pool:
        for call in (lambda: keep_classes(pool, [0]), lambda: balance_classes(pool)):
            with pytest.raises(ConfigurationError, match=r"got SyntheticPool.*ClassLabels\(num_classes, weights="):
                call()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weights": {0: 1, 7: 1}}, EmptyDatasetError, r"none of 'label' in \[7\]\. The source holds \[0, 1\]"),
        ({"weights": {}}, EmptyDatasetError, "Each class with a weight must have samples"),
        ({"weights": {0: -1}}, ConfigurationError, "`weights` must be 1 positive"),
        ({"weights": {0: 1, 1: 1e-30}}, ConfigurationError, "`length` must be an integer"),
        ({"length": 0}, ConfigurationError, "`length` must be an integer"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        balance_classes(Labels([0, 1]), **options)


def test_bad_positions():
    for positions in ([2], [-1], [0.5], [[0]]):
        with pytest.raises(SampleIndexError, match="`positions` must be"):
            SelectedSource(Labels([0, 1]), positions)
        with pytest.raises(SampleIndexError, match="`positions` must be"):
            SelectedSource(Labels([0, 1]), [0, 1]).read(np.array(positions))
    with pytest.raises(EmptyDatasetError, match="got none"):
        SelectedSource(Labels([0]), [])
