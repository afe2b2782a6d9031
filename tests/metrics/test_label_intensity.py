from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError, FieldMismatchError, TooFewImagesError
from torchgenaug.metrics import compare_label_intensities, label_medians


def phantoms(count: int, *, liver: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """CT-like images: label 1 at `liver` ± 10 HU from image to image, label 2 in every image but the first."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros((count, 1, 6, 6, 4), dtype=torch.int64)
    masks[:, :, :3], masks[1:, :, 5] = 1, 2
    images = 5 * torch.randn(masks.shape, generator=generator)
    images += torch.where(
        masks == 1, liver + 10 * torch.randn((count, 1, 1, 1, 1), generator=generator), 300.0 * (masks == 2)
    )
    return images, masks


def test_medians_per_label():
    images, masks = phantoms(3, liver=60, seed=0)
    found = label_medians(images, masks, (1, 2))
    assert float(found[1, 0]) == float(images[1][masks[1] == 1].median())
    assert found[0, 1].isnan()
    assert found[1, 1] == pytest.approx(300, abs=10)


def test_a_label_of_the_wrong_intensity_is_found_and_the_others_are_not_blamed():
    real = label_medians(*phantoms(120, liver=60, seed=0), (1, 2))
    good = compare_label_intensities(real, label_medians(*phantoms(120, liver=60, seed=1), (1, 2)), (1, 2))
    bad = compare_label_intensities(real, label_medians(*phantoms(120, liver=110, seed=2), (1, 2)), (1, 2))
    assert good["intensity outliers[1]"].value == pytest.approx(good["intensity outliers[1]"].floor, abs=0.06)
    assert bad["intensity outliers[1]"].value > 0.9
    assert bad["intensity shift[1]"].value == pytest.approx(50, abs=6)
    assert bad["intensity outliers[2]"].value < 0.2


def test_what_does_not_fit():
    images, masks = phantoms(3, liver=60, seed=0)
    with pytest.raises(FieldMismatchError, match="one mask per image"):
        label_medians(images, masks[:2], (1,))
    with pytest.raises(FieldMismatchError, match="at index 0"):
        label_medians(images, masks[..., :2], (1,))
    with pytest.raises(ConfigurationError, match="label_medians"):
        compare_label_intensities(torch.zeros(30, 2), torch.zeros(30, 1), (1, 2))
    with pytest.raises(TooFewImagesError, match="intensity outliers compares halves of at least 10"):
        compare_label_intensities(torch.rand(19, 1), torch.rand(30, 1), (1,))
