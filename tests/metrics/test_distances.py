from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.metrics import distances
from torchgenaug.metrics.distances import nearest


def vectors(count: int, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("block", [3, 7, 4096])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_nearest_agrees_with_the_full_matrix(monkeypatch, block, exclude_self):
    monkeypatch.setattr(distances.row_blocks, "__defaults__", (block,))
    keys = vectors(20)
    queries = keys if exclude_self else vectors(11, seed=1)
    full = (queries[:, None].double() - keys[None].double()).square().sum(2).sqrt()
    if exclude_self:
        full.fill_diagonal_(torch.inf)
    expected = full.sort(1)
    found = nearest(queries, keys, 4, exclude_self=exclude_self)
    assert torch.equal(found.indices, expected.indices[:, :4])
    torch.testing.assert_close(found.distances.double(), expected.values[:, :4], rtol=1e-5, atol=1e-6)


def test_copies_far_from_the_origin_keep_their_distance():
    """|x|² + |y|² − 2xy alone gives 0 or noise for 1e-3 at 1e3."""
    keys = vectors(50, 64) + 1000
    found = nearest(keys + 1e-3, keys)
    assert torch.equal(found.indices[:, 0], torch.arange(50))
    torch.testing.assert_close(found.distances[:, 0], torch.full((50,), 8e-3), rtol=0.2, atol=0)


def test_memory_is_bounded(monkeypatch):
    """No block is larger than stated, whatever the sizes of the sets."""
    sizes = []
    original = distances.squared_distances
    monkeypatch.setattr(distances, "squared_distances", lambda a, b: sizes.append(len(a) * len(b)) or original(a, b))
    nearest(vectors(3000, 2), vectors(5000, 2, seed=1))
    assert max(sizes) <= 1024**2
    assert sum(sizes) == 3000 * 5000


@pytest.mark.parametrize("k", [0, 20])
def test_impossible_k_is_refused(k):
    with pytest.raises(ConfigurationError, match="`k` must be between 1 and 19"):
        nearest(vectors(20), vectors(20), k, exclude_self=True)


def test_other_lengths_are_refused():
    with pytest.raises(ConfigurationError, match="same number of features"):
        nearest(vectors(3, 4), vectors(3, 5))
