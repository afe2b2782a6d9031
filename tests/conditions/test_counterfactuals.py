from __future__ import annotations

import pickle

import pytest
import torch

from torchgenaug.conditions import Counterfactuals
from torchgenaug.errors import ConfigurationError


def real(classes=3):
    return [{"image": torch.full((1, 4, 4), float(k)), "label": k % classes} for k in range(7)]


def test_every_image_gets_every_other_class_and_never_its_own():
    made = Counterfactuals(real(), 3)
    batch = made(range(140))
    own = batch["parent"] % 3
    assert (batch["label"] != own).all()
    assert torch.equal(batch["source"][:, 0, 0, 0].long(), batch["parent"])
    assert batch["parent"].bincount().tolist() == [20] * 7
    assert ((batch["label"] - own) % 3).bincount()[1:].min() > 50
    again = pickle.loads(pickle.dumps(made))
    assert torch.equal(again([5, 90])["label"], batch["label"][[5, 90]])
    assert not torch.equal(Counterfactuals(real(), 3, seed=1)(range(140))["label"], batch["label"])
    tuples = [tuple(sample.values()) for sample in real()]
    assert torch.equal(Counterfactuals(tuples, 3, fields=("image", "label"))([3])["label"], batch["label"][3:4])


@pytest.mark.parametrize(
    ("samples", "classes", "message"),
    [
        (real(), 1, "`num_classes` must be an integer of at least 2"),
        (real(4), 3, r"classes in \[0, 3\), got 3 at index"),
        ([{"image": torch.zeros(1, 4, 4), "label": 0.5}], 3, "one integer per sample"),
        ([{"image": torch.zeros(1, 4, 4), "label": torch.zeros(2).long()}], 3, "one integer per sample"),
    ],
)
def test_what_has_no_other_class_is_refused(samples, classes, message):
    with pytest.raises(ConfigurationError, match=message):
        Counterfactuals(samples, classes)(range(7))
