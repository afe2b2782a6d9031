"""Numbers of real and synthetic masks are compared as the first samples pass by."""

from __future__ import annotations

import pytest
import torch

from torchgenaug import SyntheticMixDataset
from torchgenaug.errors import IntensityMismatchWarning


@pytest.mark.parametrize(("real_top", "synthetic_top", "side"), [(255, 1, "real"), (1, 255, "synthetic")])
def test_masks_of_255_and_of_1_are_stated(real_top, synthetic_top, side):
    def samples(top):
        mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
        mask[:, 2:5] = top
        return [(torch.rand(1, 8, 8), mask)] * 40

    mixed = SyntheticMixDataset(samples(real_top), samples(synthetic_top), ratio=0.5, fields=("image", "mask"))
    with pytest.warns(IntensityMismatchWarning, match=f"Divide the {side} ones by 255, in `{side}_transform`"):
        list(mixed)

    def divided(sample):
        return sample[0], sample[1] // 255

    options = {f"{side}_transform": divided}
    mixed = SyntheticMixDataset(
        samples(real_top), samples(synthetic_top), ratio=0.5, fields=("image", "mask"), **options
    )
    assert {int(mixed[k][1].max()) for k in range(len(mixed))} == {1}
