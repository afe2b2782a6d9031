from __future__ import annotations

import pytest
import torch

from torchgenaug.nets import DeformationUNet
from torchgenaug.nets.deformation import moved, volume_change


class Alternating(torch.nn.Module):
    """Velocities of 1 and -1 in random cells."""

    def __init__(self, dims):
        super().__init__()
        self.dims = dims

    def forward(self, inputs):
        cells = [4] * self.dims
        drawn = torch.rand((len(inputs), self.dims, *cells), generator=torch.Generator().manual_seed(0)).round() * 2 - 1
        return torch.nn.functional.interpolate(drawn, inputs.shape[2:], mode="nearest")


@pytest.mark.parametrize("shape", [(16, 24), (64, 64), (8, 12, 16)])
def test_a_wild_network_still_does_not_fold(shape):
    torch.manual_seed(0)
    net = DeformationUNet(shape=(1, *shape), num_classes=3, width=2, value_range=(0, 100)).eval()
    images, labels = torch.rand(2, 1, *shape) * 100, torch.tensor([0, 2])
    with torch.no_grad():
        # Training begins near the identity: every voxel moves by less than a tenth of one.
        assert net.displacement(images, labels).abs().max() * max(shape) / 2 < 0.1
        net.field.leave.weight.mul_(1000)
        shift = net.displacement(images, labels)
        assert shift.abs().max() > 0.05
        assert volume_change(shift).min() > 0
        made = net(images, labels)
        other = net(images, labels.flip(0))
        # And the wildest velocity of all: both ends of the range, cell by cell.
        net.field = Alternating(len(shape))
        assert volume_change(net.displacement(images, labels)).min() > 0
    assert made.min() >= images.min()
    assert made.max() <= images.max()
    assert not torch.equal(made, other)


def test_the_change_of_volume_of_known_fields():
    grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 24), indexing="ij")).flip(0)
    # x → 1.5 x along the last axis, in half sides; linspace has 24 places on 23 steps.
    stretch = torch.stack([0.5 * grid[0] * 23 / 24, torch.zeros(16, 24)])[None]
    assert torch.allclose(volume_change(stretch), torch.tensor(1.5), atol=1e-4)
    turn = torch.stack([-grid[1] * 15 / 16 * 16 / 24, grid[0] * 23 / 24 * 24 / 16])[None]  # a shear each way: det 2
    assert torch.allclose(volume_change(turn), torch.tensor(2.0), atol=1e-4)


def test_images_are_moved_by_whole_pixels():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    shift = torch.zeros(1, 2, 3, 4)
    shift[:, 0] = 2 / 4  # one pixel along the last axis
    assert torch.allclose(moved(image, shift)[..., :3], image[..., 1:], atol=1e-5)
    assert torch.allclose(moved(image, shift)[..., 3], image[..., 3], atol=1e-5)
