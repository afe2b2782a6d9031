from __future__ import annotations

import warnings

import pytest
import torch

from torchgenaug import FieldSpec, FunctionSynthesizer, SyntheticPool, SyntheticSequence
from torchgenaug.errors import CollapseWarning


def collapsing(seeds, conditions):
    """Three images, whatever the seed."""
    generators = [torch.Generator().manual_seed(seed % 3) for seed in seeds]
    return {"image": torch.stack([torch.randn(1, 16, 16, generator=each) for each in generators])}


@pytest.mark.parametrize("background", [True, False])
def test_a_model_that_makes_few_images_is_warned_of_once(background):
    synthesizer = FunctionSynthesizer(collapsing, {"image": FieldSpec((1, 16, 16))}, fingerprint="three images")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with SyntheticPool(SyntheticSequence(synthesizer), 64, batch_size=8, background=background) as pool:
            for epoch in range(3):
                pool.set_epoch(epoch)
                pool.read(torch.arange(64).numpy())
    alarms = [each for each in caught if issubclass(each.category, CollapseWarning)]
    assert len(alarms) == 1
    assert "may have collapsed" in str(alarms[0].message)
