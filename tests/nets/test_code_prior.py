from __future__ import annotations

import math

import pytest
import torch

from torchgenaug.nets.code_prior import CodePrior


@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 2)])
def test_a_code_depends_on_those_before_it_alone(grid):
    torch.manual_seed(0)
    prior = CodePrior(len(grid), 5, 8, depth=2)
    codes = torch.randint(5, (1, *grid))
    before = prior(codes).flatten(2)
    for place in range(codes.numel()):
        changed = codes.clone().flatten()
        changed[place] = (changed[place] + 1) % 5
        moved = (prior(changed.view_as(codes)).flatten(2) != before).any(1)[0]
        assert not moved[: place + 1].any()
        assert place + 1 == codes.numel() or moved.any()


def test_codes_are_drawn_from_the_distribution():
    torch.manual_seed(0)
    prior = CodePrior(2, 3, 8, depth=1).eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.mul_(3)
        codes = prior.draw(torch.rand(4000, 2), (1, 2))
        first = prior(torch.zeros(1, 1, 2, dtype=torch.int64))[0, :, 0, 0].softmax(0)
        second = prior(torch.tensor([[[1, 0]]]))[0, :, 0, 1].softmax(0)
    assert torch.allclose(codes[:, 0, 0].bincount(minlength=3) / 4000, first, atol=0.03)
    rows = codes[codes[:, 0, 0] == 1, 0, 1]
    assert torch.allclose(rows.bincount(minlength=3) / len(rows), second, atol=0.06)


@pytest.mark.parametrize("grid", [(3, 4), (3, 2, 3)])
def test_codes_are_drawn_from_what_was_trained(grid):
    """Given maps behind a place count there as they do in training."""
    torch.manual_seed(0)
    prior = CodePrior(len(grid), 5, 8, depth=2, given=2, num_classes=3).eval()
    with torch.no_grad():
        prior.given.weight.mul_(20)  # else other maps would hardly change a code
        uniform, maps, labels = torch.rand(16, math.prod(grid)), torch.randn(16, 2, *grid), torch.arange(16) % 3
        codes = prior.draw(uniform, grid, maps, labels)
        edges = prior(codes, maps, labels).double().softmax(1).cumsum(1).flatten(2)
    at = codes.flatten(1)[:, None]
    above = edges.gather(1, at)[:, 0]
    below = torch.where(at > 0, edges.gather(1, (at - 1).clamp_min(0)), 0)[:, 0]
    assert bool((below - 1e-6 <= uniform).all() and (uniform <= above + 1e-6).all())
