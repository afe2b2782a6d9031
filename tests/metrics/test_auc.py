from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from torchgenaug.errors import ConfigurationError
from torchgenaug.metrics import roc_auc


@pytest.mark.parametrize("decimals", [1, 6])
def test_agrees_with_scikit_learn_with_and_without_ties(decimals):
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(80, generator=generator) < 0.3
    scores = (torch.rand(80, generator=generator) + 0.3 * labels).round(decimals=decimals)
    assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        ([0.1, 0.2], [1, 1], "both 0 and 1"),
        ([0.1, 0.2], [0, 2], "both 0 and 1"),
        ([0.1, float("nan")], [0, 1], "finite"),
        ([0.1], [0, 1], r"must be \(count,\)"),
    ],
)
def test_what_has_no_auc_is_refused(scores, labels, words):
    with pytest.raises(ConfigurationError, match=words):
        roc_auc(torch.tensor(scores), torch.tensor(labels))
