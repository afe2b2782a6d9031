from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from torchgenaug import ClassLabels, SyntheticSequence, load_synthesizer
from torchgenaug.datasets.brain import NUM_LEVELS, load_volumes, slice_rows
from torchgenaug.demo import WEIGHTS, BrainSlices
from torchgenaug.demo.segmenter import Segmenter, mean_dice, train_step
from torchgenaug.errors import MissingExtraError


@pytest.fixture(scope="module")
def real():
    return BrainSlices("train")


@pytest.fixture(scope="module")
def made():
    sequence = SyntheticSequence(load_synthesizer(WEIGHTS), ClassLabels(NUM_LEVELS))
    return sequence.batch(range(12))


def test_slices_are_brains(real):
    assert len(real) == 70
    assert len(BrainSlices("held_out")) == 18
    for sample in (real[0], real[69]):
        assert sample["image"].shape == sample["mask"].shape == (1, 64, 64)
        assert sample["mask"].dtype == torch.int64
    assert real.masks.unique().tolist() == [0, 1, 2, 3]
    assert 0 <= real.images.min() < real.images.max() <= 1
    means = [real.images[real.masks == tissue].mean().item() for tissue in range(4)]
    assert means[0] < means[1] < means[2] < means[3], "T1: background < CSF < grey < white matter"
    assert sorted(set(real.labels)) == [0, 1, 2, 3]


def test_splits_keep_a_gap():
    train, held_out = slice_rows("train"), slice_rows("held_out")
    assert min(abs(a - b) for a in train for b in held_out) > 2


def test_tissue_maps_are_fractions():
    volumes = load_volumes()
    assert volumes.shape == (4, 192, 192, 100)
    assert volumes[1:].sum(0).max() <= 1.0 + 1e-4


def test_without_nilearn(monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(MissingExtraError, match=r"needs the package `nilearn`.*pip install 'torchgenaug\[demo\]'"):
        BrainSlices()


def test_shipped_weights_are_small_and_say_what_they_were_trained_on():
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*.safetensors")) <= 2_000_000
    trained_on = load_synthesizer(WEIGHTS).trained_on
    assert trained_on is not None
    assert trained_on["rows"] == slice_rows("train"), "held-out slices never entered the generator"


def _features(images):
    """Coarse look of a slice: 4 x 4 block means of the image."""
    return torch.nn.functional.avg_pool2d(images, 8).flatten(1)


def test_samples_look_like_brain_slices(real, made):
    """Nearest real slice much closer than for noise, and than for real slices with shuffled pixels."""
    images = made["image"]
    noise = torch.rand_like(images)
    shuffled = images.flatten(1)[:, torch.randperm(4096, generator=torch.Generator().manual_seed(0))].view_as(images)
    nearest = [
        torch.cdist(_features(x), _features(real.images)).min(1).values.mean() for x in (images, noise, shuffled)
    ]
    assert nearest[0] < 0.35 * nearest[1]
    assert nearest[0] < 0.35 * nearest[2]


def test_masks_belong_to_their_images(made):
    for image, mask in zip(made["image"], made["mask"], strict=True):
        assert image[mask == 0].mean() < 0.1 < image[mask == 2].mean() < image[mask == 3].mean()


def test_samples_follow_their_level(real, made):
    """The nearest level centre is the one that was asked for, far more often than the one in four of chance."""
    labels = np.array(real.labels)
    centres = torch.stack([_features(real.images[labels == level]).mean(0) for level in range(4)])
    nearest = torch.cdist(_features(made["image"]), centres).argmin(1)
    assert (nearest == made["label"]).float().mean() >= 0.6


def test_samples_are_no_copies(real, made):
    """Neither of a real slice, nor of each other: the templates were deformed before training."""
    flat = made["image"].flatten(1)
    to_real = torch.cdist(flat, real.images.flatten(1)).min(1).values
    assert to_real.min() > 3.0
    among = torch.cdist(flat, flat) + 100 * torch.eye(12)
    assert among.min() > 3.0


def test_segmenter_learns(real):
    torch.manual_seed(0)
    model = Segmenter()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    before = mean_dice(model, real)
    batch = {"image": real.images[::7], "mask": real.masks[::7]}
    losses = [train_step(model, optimizer, batch) for _ in range(25)]
    assert losses[-1] < 0.5 * losses[0]
    assert mean_dice(model, real) > before + 0.2
