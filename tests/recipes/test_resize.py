from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.resize import fit_image, fit_mask, target_size


@pytest.mark.parametrize("spatial", [(20, 40), (16, 24, 32)])
@pytest.mark.parametrize("scale", [1 / 2, 2])
def test_proportions_are_kept(spatial, scale):
    """A smooth pattern keeps its shape; what is added is the border's grey."""
    axes = torch.meshgrid(*(torch.arange(size) for size in spatial), indexing="ij")
    centre = [(size - 1) / 2 for size in spatial]
    distance = sum((axis - middle) ** 2 for axis, middle in zip(axes, centre, strict=True)).sqrt()
    image = torch.sigmoid(6 - distance)[None] + 7
    side = round(max(spatial) * scale)
    fitted = fit_image(image, (side,) * len(spatial))
    assert fitted.shape == (1, *(side,) * len(spatial))
    inside = (fitted[0] > 7.5).nonzero().float()
    extent = inside.max(0).values - inside.min(0).values + 1
    assert extent.max() - extent.min() <= 2
    assert extent.mean().item() == pytest.approx(12 * scale, abs=2)
    assert fitted.flatten()[0].item() == pytest.approx(image.flatten()[0].item(), abs=0.01)


def test_shrinking_is_antialiased():
    checkers = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).float()[None]
    assert fit_image(checkers, (16, 16)).std() < 0.05
    volume = checkers[:, :, :, None].expand(-1, -1, -1, 64).contiguous()
    assert fit_image(volume, (16, 16, 16)).std() < 0.05


def test_masks_keep_their_classes_and_lie_on_the_image():
    mask = torch.zeros(1, 40, 20, dtype=torch.int64)
    mask[:, 8:24, 4:12] = 9
    fitted = fit_mask(mask, (20, 20))
    assert fitted.dtype == torch.int64
    assert fitted.unique().tolist() == [0, 9]
    moved = fit_image(mask.float(), (20, 20))
    assert torch.equal(moved > 4.5, fitted > 0)


def test_a_few_pixels_are_added_not_interpolated():
    image = torch.rand(2, 28, 30)
    fitted = fit_image(image, target_size((28, 30), None))
    assert fitted.shape == (2, 32, 32)
    assert torch.equal(fitted[:, 2:30, 1:31], image)


def test_sizes():
    assert target_size((13, 16), None) == (16, 16)
    assert target_size((13, 16), 64) == (64, 64)
    assert target_size((1, 2, 3), (4, 5, 6)) == (4, 5, 6)
    with pytest.raises(ConfigurationError, match="one positive number, or 2 of them"):
        target_size((13, 16), (1, 2, 3))
    with pytest.raises(ConfigurationError, match="got 0"):
        target_size((13, 16), 0)
