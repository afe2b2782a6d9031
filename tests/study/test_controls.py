"""Controls without a generator, filters with a random selection of equal size, and elastic transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from study_helpers import CLASSES, FIELDS, Images, split, study
from torch.utils.data import TensorDataset

from torchgenaug import ClassLabels, SyntheticSequence
from torchgenaug.errors import ConfigurationError, LeakError
from torchgenaug.study import (
    BatchElastic,
    Classification,
    filtered,
    pseudo_labelled,
    real_repeated,
    real_sample_transformed,
    retrieved,
    translated,
)
from torchgenaug.study.transforms import BatchAffine
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource


def pattern(value):
    """A model that is sure of one class for bright images, and of none for others."""

    def predict(model, dataset):
        bright = torch.stack([image.mean() > 1 for image, _ in dataset])
        return torch.where(bright[:, None], torch.eye(CLASSES)[value], torch.full((CLASSES,), 1 / CLASSES))

    return predict


def test_confident_images_get_the_label_of_the_first_network():
    images = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[::2] += 5
    data, calls = TensorDataset(images, torch.full((12,), -1)), []

    def train(dataset, seed, steps):
        calls.append((len(dataset), seed, steps))
        torch.rand(3)

    arm = pseudo_labelled(lambda split: data, train, pattern(2), 7, ratio=1.0)
    before = torch.get_rng_state()
    mix = arm.build(split(), 4)
    assert torch.equal(before, torch.get_rng_state())
    assert calls == [(6, 4, 7)]
    assert arm.role == "control"
    samples = mix.__getitems__(range(6))
    assert all(label == 2 and image.mean() > 1 for image, label in samples)
    # Where too few are sure, the surest ones, as many as there are real samples.
    dark = TensorDataset(images[1::2], torch.full((6,), -1))
    arm = pseudo_labelled(lambda split: dark, train, pattern(2), 7, ratio=1.0)
    assert len(arm.build(split(), 4)) == 6


def test_retrieved_images_are_the_nearest_ones_with_the_label_of_the_real_one():
    few = split()
    real = few.train.tensors[0]
    other = torch.cat([real + 0.01, torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(3))])
    pool = TensorDataset(other[torch.randperm(26, generator=torch.Generator().manual_seed(0))])
    arm = retrieved(lambda split: pool, ratio=1.0, neighbours=1)
    samples = [sample for epoch in range(1) for sample in arm.build(few, 0).__getitems__(range(6))]
    for image, label in samples:
        row = int((real - image).abs().flatten(1).mean(1).argmin())
        assert (real[row] + 0.01 - image).abs().max() < 1e-5
        assert label == few.train.tensors[1][row]


def test_translated_images_keep_their_labels(tmp_path):
    arm = translated(lambda split, images: -images, ratio=1.0, fields=FIELDS)
    few = split()
    for image, label in arm.build(few, 0).__getitems__(range(6)):
        row = int((few.train.tensors[0] + image).abs().flatten(1).sum(1).argmin())
        assert torch.equal(few.train.tensors[0][row], -image)
        assert few.train.tensors[1][row] == label
    leak = translated(lambda split, images: split.test.tensors[0][: len(images)], fields=FIELDS)
    with pytest.raises(LeakError, match="look-up table"):
        study([real_repeated(), leak, filtered_arm()]).run(tmp_path)


def test_own_transforms_are_drawn_anew_in_each_epoch():
    import torchio as tio

    volumes = torch.rand(6, 1, 8, 8)
    data = split()
    data = type(data)("all", TensorDataset(volumes, torch.arange(6)), data.validation, data.test)
    arm = real_sample_transformed(tio.RandomNoise(std=0.5), fields=FIELDS)
    mix = arm.build(data, 0)
    first = mix[0][0]
    mix.set_epoch(1)
    assert not torch.equal(first, mix[0][0])
    again = arm.build(data, 0)
    assert torch.equal(first, again[0][0])
    assert "RandomNoise" in arm.settings["transform"]
    other = real_sample_transformed(tio.RandomNoise(std=0.1), fields=FIELDS)
    assert other.settings != arm.settings == real_sample_transformed(tio.RandomNoise(std=0.5)).settings


def filtered_arm():
    source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8), num_classes=3), ClassLabels(3)), 24)
    return filtered(source, lambda split: brightness, best=0.5, within="label", fields=FIELDS)[0]


def brightness(batch):
    return batch["image"].flatten(1).mean(1)


def test_a_filter_has_a_random_selection_of_equal_size_beside_it():
    source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8), num_classes=3), ClassLabels(3)), 24)
    kept, random = filtered(source, lambda split: brightness, best=0.25, within="label", fields=FIELDS)
    best, drawn = kept.source(split()), random.source(split())
    assert len(best) == len(drawn) == 6
    assert torch.equal(best.column("label").bincount(), drawn.column("label").bincount())
    assert best.positions.tolist() != drawn.positions.tolist()
    assert brightness(best.read(np.arange(6))).mean() > brightness(source.read(np.arange(24))).mean()
    assert kept.name != random.name
    with pytest.raises(ConfigurationError, match="source with fields"):
        filtered(Images(6, 7), lambda split: brightness)[0].source(split())


@pytest.mark.parametrize("dims", [2, 3])
def test_elastic_moves_image_and_mask_alike_and_nothing_without_displacement(dims):
    masks = torch.zeros(3, 1, *[16] * dims, dtype=torch.int64)
    masks[:, :, 4:12, 5:11] = 1
    seeds = np.arange(3, dtype=np.uint64)
    still = BatchElastic(displacement=0, affine=BatchAffine(0, 0, 0))
    assert torch.allclose(still(masks.float(), seeds), masks.float(), atol=1e-5)
    moved = BatchElastic(affine=BatchAffine(0, 0, 0))
    image, mask = moved(masks.float(), seeds), moved(masks, seeds)
    assert mask.dtype == torch.int64
    assert not torch.equal(mask, masks)
    assert ((image > 0.5) == (mask == 1)).float().mean() > 0.97
    assert not torch.equal(mask[0], mask[1])


def test_a_task_gives_probabilities():
    task = Classification(CLASSES, width=4)
    found = task.probabilities(task.train(Images(6, 0), 0, 1), Images(9, 1))
    assert found.shape == (9, CLASSES)
    assert torch.allclose(found.sum(1), torch.ones(9))
