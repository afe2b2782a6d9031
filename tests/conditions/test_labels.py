from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchgenaug.conditions import ClassLabels
from torchgenaug.contracts import Conditions
from torchgenaug.errors import ConfigurationError

WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(0.01, 1)), min_size=1, max_size=12).filter(lambda w: sum(w) > 0)
SEEDS = st.integers(0, (1 << 63) - 1)


def labels_of(conditions, ids):
    return conditions(ids)["label"].numpy()


def deviation(conditions, labels):
    """Largest |count - n share| over all classes and all prefixes."""
    counts = np.cumsum(np.eye(conditions.num_classes)[labels], 0)
    return np.abs(counts - np.arange(1, len(labels) + 1)[:, None] * conditions.shares).max()


@given(WEIGHTS, SEEDS)
def test_every_prefix_has_the_shares(weights, seed):
    conditions = ClassLabels(len(weights), weights=weights, seed=seed)
    assert deviation(conditions, labels_of(conditions, range(5000))) <= 6


@given(st.integers(1, 40), SEEDS)
def test_balanced_prefixes_are_within_one(num_classes, seed):
    conditions = ClassLabels(num_classes, seed=seed)
    labels = labels_of(conditions, range(20 * num_classes))
    assert deviation(conditions, labels) < 1
    assert (np.sort(labels.reshape(20, num_classes)) == np.arange(num_classes)).all()


def test_the_deviation_stays_small_over_a_million_ids():
    """Coin flips would be off by about 450 here."""
    for weights in ([0.3, 0.7], [1, np.e, np.pi], [0.001, 0.999], [1.0] * 7 + [np.sqrt(2)]):
        conditions = ClassLabels(len(weights), weights=weights)
        assert deviation(conditions, labels_of(conditions, range(1_000_000))) <= 6


@given(WEIGHTS, SEEDS, st.lists(st.integers(0, (1 << 62) - 1), min_size=1, max_size=20))
def test_a_label_is_a_function_of_its_id(weights, seed, ids):
    conditions = ClassLabels(len(weights), weights=weights, seed=seed)
    together = labels_of(conditions, ids)
    assert together.tolist() == [labels_of(conditions, [one])[0] for one in ids]
    assert together.tolist() == labels_of(conditions, ids[::-1])[::-1].tolist()
    assert np.asarray(weights)[together].all()


@pytest.mark.parametrize("stride", [2, 3, 4, 8, 10, 16, 64])
def test_strides_see_no_pattern(stride):
    """Workers and shards often take every k-th id; each must get about the same shares."""
    for weights in (None, [0.5, 0.25, 0.125, 0.125], [0.3, 0.3, 0.2, 0.2], [1, 2, 3.3, 4.1]):
        conditions = ClassLabels(4, weights=weights)
        for start in (0, stride - 1):
            labels = labels_of(conditions, range(start, start + 4000 * stride, stride))
            shares = np.bincount(labels, minlength=4) / 4000
            assert np.abs(shares - conditions.shares).max() <= 0.04


def test_order_differs_between_blocks_and_seeds():
    rows = labels_of(ClassLabels(6), range(600)).reshape(100, 6)
    assert len({tuple(row) for row in rows}) > 80
    assert labels_of(ClassLabels(6, seed=1), range(600)).tolist() != rows.ravel().tolist()


def test_like_follows_real_labels():
    real = [0] * 70 + [2] * 25 + [3] * 5
    for given_as in (real, np.array(real), torch.tensor(real)):
        conditions = ClassLabels(4, like=given_as)
        assert np.bincount(labels_of(conditions, range(2000)), minlength=4).tolist() == [1400, 0, 500, 100]
    assert ClassLabels(4, like=real).fingerprint == ClassLabels(4, weights=[14, 0, 5, 1]).fingerprint


def test_one_class():
    conditions = ClassLabels(1)
    assert labels_of(conditions, range(5)).tolist() == [0] * 5
    assert conditions.fields["label"].value_range is None


def test_contract():
    conditions = ClassLabels(3, name="level", seed=5)
    assert isinstance(conditions, Conditions)
    value = conditions([4, 0])["level"]
    assert (value.dtype, tuple(value.shape)) == (torch.int64, (2,))
    spec = conditions.fields["level"]
    assert (spec.shape, spec.dtype, spec.kind, spec.value_range) == ((), torch.int64, "scalar", (0, 2))
    copy = pickle.loads(pickle.dumps(conditions))
    assert copy.fingerprint == conditions.fingerprint
    assert torch.equal(copy(range(50))["level"], conditions(range(50))["level"])
    assert repr(conditions) == "ClassLabels(3, balanced, seed=5)"
    assert "shares=[0.25, 0.75]" in repr(ClassLabels(2, weights=[1, 3]))


def test_fingerprints_differ():
    variants = [
        ClassLabels(2),
        ClassLabels(3),
        ClassLabels(2, seed=1),
        ClassLabels(2, name="level"),
        ClassLabels(2, weights=[1, 2]),
        ClassLabels(2, weights=[1, 2.0001]),
    ]
    assert len({one.fingerprint for one in variants}) == len(variants)
    assert ClassLabels(2, weights=[5, 5]).fingerprint == ClassLabels(2).fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "`num_classes` must be a positive integer, got 0"),
        ({"num_classes": 2.0}, "`num_classes` must be a positive integer, got 2.0"),
        ({"num_classes": True}, "got True"),
        ({"num_classes": 2, "weights": [1]}, r"`weights` must be 2 finite numbers of at least 0.*got \[1\]"),
        ({"num_classes": 2, "weights": [1, -1]}, "`weights`"),
        ({"num_classes": 2, "weights": [0, 0]}, "`weights`"),
        ({"num_classes": 2, "weights": [1, float("nan")]}, "`weights`"),
        ({"num_classes": 2, "weights": ["a", "b"]}, "`weights`"),
        ({"num_classes": 2, "weights": [1, 1], "like": [0]}, "must not be given both"),
        ({"num_classes": 2, "like": []}, "`like` must be a non-empty list of integer labels"),
        ({"num_classes": 2, "like": [0.5]}, "`like` must be .* of float64"),
        ({"num_classes": 2, "like": [0, 2]}, r"in \[0, 2\), got 0 to 2. Set num_classes=3"),
        ({"num_classes": 2, "like": [-1, 1]}, "got -1 to 1"),
        ({"num_classes": 2, "seed": -1}, r"`seed` must be an integer in \[0, 2\^63\), got -1"),
        ({"num_classes": 2, "name": ""}, "`name` must be a field name, got ''"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ClassLabels(**options)
