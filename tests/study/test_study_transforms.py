"""Batched affine transforms: against TorchIO's meaning of an angle, the same for any batch, labels whole."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from torchgenaug import SyntheticMixDataset, seeding
from torchgenaug.study import BatchAffine, BatchTransformed


@pytest.mark.parametrize("spatial", [(9, 9), (5, 7, 9)])
def test_no_movement_changes_nothing(spatial):
    images = torch.rand(4, 2, *spatial)
    seeds = seeding.derive(0, range(4))
    assert torch.allclose(BatchAffine(0, 0, 0)(images, seeds), images, atol=1e-5)


def test_a_shift_moves_by_pixels():
    images = torch.zeros(200, 1, 11, 11)
    images[:, :, 5, 5] = 1
    moved = BatchAffine(0, 0, 2 / 11)(images, seeding.derive(1, range(200)))
    rows = (moved.sum((1, 3)) * torch.arange(11)).sum(1) - 5
    assert rows.abs().max() <= 2.001
    assert rows.min() < -1.5
    assert rows.max() > 1.5
    assert torch.allclose(moved.sum((1, 2, 3)), torch.ones(200), atol=1e-4)


def test_label_maps_keep_their_values_and_follow_the_image():
    images = torch.zeros(3, 1, 16, 16)
    images[:, :, 4:12, 4:12] = 1
    seeds = seeding.derive(2, range(3))
    moved, labels = BatchAffine()(images, seeds), BatchAffine()(3 * images.long(), seeds)
    assert set(labels.unique().tolist()) == {0, 3}
    assert ((moved > 0.5) == (labels == 3)).float().mean() > 0.95


def test_samples_depend_on_seed_epoch_and_index_alone():
    real = TensorDataset(torch.rand(12, 1, 8, 8), torch.arange(12))

    def images(batch_size, epoch, seed=0):
        data = BatchTransformed(SyntheticMixDataset(real, real, 0.0, seed=seed), BatchAffine())
        data.set_epoch(epoch)
        return torch.cat([image for image, _ in DataLoader(data, batch_size)])

    assert torch.allclose(images(12, 1), images(5, 1), atol=1e-6)
    assert not torch.allclose(images(12, 1), images(12, 2), atol=1e-3)
    assert not torch.allclose(images(12, 1), images(12, 1, seed=1), atol=1e-3)


def test_passes_without_set_epoch_differ():
    real = TensorDataset(torch.rand(12, 1, 8, 8), torch.arange(12))
    data = BatchTransformed(SyntheticMixDataset(real, real, 0.0), BatchAffine())
    loader = DataLoader(data, 4)
    first, second = (torch.cat([image for image, _ in loader]) for _ in range(2))
    assert not torch.allclose(first, second, atol=1e-3)
