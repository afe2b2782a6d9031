from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug.errors import TooFewImagesError
from torchgenaug.metrics import distances
from torchgenaug.metrics.sets.vendi import vendi_score


@pytest.mark.parametrize(("count", "width"), [(9, 20), (40, 6)])
def test_agrees_with_the_formula(monkeypatch, count, width):
    monkeypatch.setattr(distances.row_blocks, "__defaults__", (7,))
    features = torch.randn(count, width, generator=torch.Generator().manual_seed(0))
    unit = features.numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(unit @ unit.T / count)
    shares = shares[shares > 1e-9]
    assert vendi_score(features) == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-4)


def test_counts_different_images():
    groups = torch.eye(12)[torch.arange(60) % 3]
    assert vendi_score(groups) == pytest.approx(3)
    assert vendi_score(torch.zeros(5, 4)) == pytest.approx(1)
    with pytest.raises(TooFewImagesError, match="at least 1"):
        vendi_score(torch.zeros(0, 4))
