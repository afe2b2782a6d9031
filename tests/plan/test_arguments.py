from __future__ import annotations

import pytest
import torch
from torch.utils.data import TensorDataset

from torchgenaug import MixPlan, SyntheticMixDataset
from torchgenaug.errors import ConfigurationError
from torchgenaug.plan.mix_plan import Counts


def test_count_and_ratio_together_are_refused_and_the_advice_works():
    data = TensorDataset(torch.rand(8, 1, 4, 4))
    for build in (
        lambda **share: MixPlan(8, 8, **share),
        lambda **share: SyntheticMixDataset(data, data, fields=("image",), **share).plan,
    ):
        with pytest.raises(ConfigurationError, match=r"Leave one out: count=3\."):
            build(ratio=0.25, count=3)
        assert build(count=3).counts(0) == Counts(5, 3)
        assert build().counts(0) == build(ratio=0.25).counts(0) == Counts(6, 2)
