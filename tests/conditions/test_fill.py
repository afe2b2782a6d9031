from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchgenaug import FillClasses, SyntheticMixDataset, SyntheticSequence
from torchgenaug.errors import ConfigurationError
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=40),
    st.integers(1, 60) | st.none(),
    st.integers(0, 1000),
    st.integers(0, 3),
)
def test_any_run_of_count_ids_fills_every_class(labels, target, start, seed):
    counts = np.bincount(labels, minlength=5)
    goal = counts.max() if target is None else target
    if (counts >= goal).all():
        with pytest.raises(ConfigurationError, match="nothing to fill"):
            FillClasses(labels, target, num_classes=5)
        return
    fill = FillClasses(labels, target, num_classes=5, seed=seed)
    assert fill.count == fill.needed.sum()
    made = fill(range(start, start + fill.count))["label"]
    assert made.dtype == torch.int64
    after = counts + np.bincount(made.numpy(), minlength=5)
    assert (after == np.maximum(counts, goal)).all()


def test_the_mix_has_the_target_count_of_each_class():
    labels = [0] * 9 + [1] * 4 + [2]
    fill = FillClasses(labels)
    real = [{**_sample(), "label": label} for label in labels]
    source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8), num_classes=3), fill), fill.count)
    mixed = SyntheticMixDataset(real, source, mode="extend", count=fill.count)
    assert np.bincount([int(mixed[k]["label"]) for k in range(len(mixed))]).tolist() == [9, 9, 9]


def _sample():
    return {"image": torch.rand(1, 8, 8), "mask": torch.ones(1, 8, 8).long()}


def test_order_is_random_and_of_the_seed():
    one, two = (FillClasses([0] * 50, 80, num_classes=2, seed=seed)(range(110))["label"] for seed in (0, 1))
    assert not torch.equal(one, two)
    assert not torch.equal(one, one.sort().values)


def test_fingerprint_and_pickle():
    made = FillClasses(torch.tensor([0, 1, 1]), seed=3, name="grade")
    copy = pickle.loads(pickle.dumps(made))
    assert copy.fingerprint == made.fingerprint
    assert torch.equal(copy(range(5))["grade"], made(range(5))["grade"])
    others = [FillClasses([0, 1, 1]), FillClasses([0, 1, 1], 4), FillClasses([0, 1, 1], seed=3)]
    assert len({made.fingerprint, *(other.fingerprint for other in others)}) == 4


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([],), {}, "non-empty list of integers"),
        (([0.5, 1.5],), {}, "integers from 0, got shape"),
        (([-1, 0],), {}, "integers from 0"),
        (([0, 1], 0), {}, "positive count"),
        (([0, 1], True), {}, "positive count"),
        (([0, 3],), {"num_classes": 2}, "at least 4"),
        (([0, 1, 1],), {"seed": -1}, "`seed`"),
        (([0, 1, 1],), {"name": ""}, "`name`"),
        (([0, 1],), {}, "nothing to fill"),
    ],
)
def test_bad_arguments(arguments, options, message):
    with pytest.raises(ConfigurationError, match=message):
        FillClasses(*arguments, **options)
