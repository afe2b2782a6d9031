"""Arms for rare classes: what they hold, and that the loss is weighted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.training_data import TensorSamples, TrainingData
from torchgenaug.study import BatchAffine, Classification, Split
from torchgenaug.study.rare_classes import balanced_loss, balanced_rows, oversampled, topped_up
from torchgenaug.types import FieldSpec


def images(counts, value):
    labels = torch.cat([torch.full((count,), each) for each, count in enumerate(counts)])
    return TensorDataset(torch.full((len(labels), 1, 8, 8), value) + torch.rand(len(labels), 1, 8, 8) / 10, labels)


SPLIT = Split("all", images((9, 2, 4), 0.0), images((3, 3, 3), 0.2), images((3, 3, 3), 0.4))


def test_oversampling_shows_every_class_equally_often():
    data = oversampled(BatchAffine()).build(SPLIT, 0)
    assert Counter(int(label) for _, label in (data[k] for k in range(len(data)))) == {0: 9, 1: 9, 2: 9}
    rows = balanced_rows(np.array([0] * 9 + [1] * 2 + [2] * 4))
    assert max(Counter(rows).values()) - min(Counter(rows[9:18]).values()) <= 1


def test_rare_classes_are_topped_up_and_frequent_ones_are_not():
    data = topped_up(images((20, 20, 20), 0.8)).build(SPLIT, 0)
    pairs = [data[k] for k in range(len(data))]
    assert Counter(int(label) for _, label in pairs) == {0: 9, 1: 9, 2: 9}
    generated = Counter(int(label) for image, label in pairs if image.mean() > 0.5)
    assert generated == {1: 4, 2: 4}
    data.set_epoch(1)
    assert data.epoch == 1


def test_the_loss_is_weighted():
    data = balanced_loss().build(SPLIT, 0)
    assert data.class_weights.tolist() == pytest.approx([15 / 27, 15 / 6, 15 / 12])
    task = Classification(3, width=4, batch_size=15)
    plain = oversampled().build(Split("one", SPLIT.train, SPLIT.validation, SPLIT.test), 0)
    first, second = task.train(data, 0, 2), task.train(plain, 0, 2)
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


def test_rare_recall_is_that_of_the_rare_classes():
    class Guess(torch.nn.Module):
        def forward(self, found):
            return torch.nn.functional.one_hot(torch.zeros(len(found), dtype=torch.int64), 3).float()

    measures = Classification(3, width=4, rare=(0, 1)).measures(Guess(), SPLIT.test)
    assert measures["rare recall"] == 0.5
    assert "rare recall" not in Classification(3, width=4).measures(Guess(), SPLIT.test)


def test_some_classes_can_be_limited():
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    data = TrainingData(
        TensorSamples({"image": torch.rand(8, 1, 4, 4), "label": labels}),
        {"image": FieldSpec((1, 4, 4)), "label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, 2))},
        tuple(map(str, range(8))),
        "some",
    )
    assert np.bincount(data.limit({1: 1}, seed=3).labels()).tolist() == [3, 1, 2]
    assert data.limit({1: 1}, seed=3).ids == data.limit({1: 1}, seed=3).ids
    with pytest.raises(ConfigurationError, match=r"`count` of class 2 must be between 1 and 2, .* got 3"):
        data.limit({2: 3})
    with pytest.raises(ConfigurationError, match=r"class 7 must be .*Classes: 0, 1, 2"):
        data.limit({7: 1})
