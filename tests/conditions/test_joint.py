from __future__ import annotations

import pytest
import torch

from torchgenaug import ClassLabels, Covariates, JointConditions, Prompts


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        (ClassLabels(2), ClassLabels(2, name="sex"), ("label", "sex")),
        (ClassLabels(2), Prompts(["a", "b"], torch.zeros(2, 3, 4)), ("label", "prompt")),
        (Covariates(ranges={"a": (0, 1)}), Covariates(ranges={"b": (0, 1)}), ("a", "b")),
        (Covariates(ranges={"label": (0, 1)}), Covariates(ranges={"a": (0, 1), "b": (0, 1)}), ("label", "a")),
    ],
)
def test_parts_with_equal_seeds_are_independent(one, other, names):
    batch = JointConditions(one, other)(range(4000))
    values = [batch[name].double() for name in names]
    assert abs(torch.corrcoef(torch.stack(values))[0, 1]) < 0.06
