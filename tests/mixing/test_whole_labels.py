"""Class labels of real samples, in whatever holds a whole number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.dataset.labels import whole_labels


def test_whole_numbers_of_every_kind():
    values = [1, 2.0, np.int64(3), np.array(4), torch.tensor(5), torch.tensor([6]), np.array([7])]
    assert whole_labels(values, "label").tolist() == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("value", [0.5, torch.tensor([1, 2]), "seven"])
def test_anything_else_is_refused(value):
    with pytest.raises(ConfigurationError, match="field of class labels, whole numbers, got"):
        whole_labels([value], "label")
