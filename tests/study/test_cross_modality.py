"""The cross-modality study in a tiny version: what arms hold, and that nothing of it leaks; never scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug.study.config import load_study
from torchgenaug.study.examples import EXAMPLES
from torchgenaug.study.intensity_maps import RandomIntensityMap, apply_intensity_map, fit_intensity_map
from torchgenaug.study.segmentation import Segmentation
from torchgenaug.study.transforms import BatchAffine


def test_a_look_up_table_learns_a_map_of_intensities():
    sources = torch.rand(8, 1, 32, 32)
    table = fit_intensity_map(sources, 1 - sources)
    assert (apply_intensity_map(sources, table) - (1 - sources)).abs().max() < 0.02


def test_random_maps_change_intensities_and_not_places():
    transform = RandomIntensityMap(affine=BatchAffine(0, 0, 0))
    images = (torch.rand(6, 1, 16, 16) > 0.5).float()
    seeds = np.arange(6, dtype=np.uint64)
    mapped = transform(images, seeds)
    for before, after in zip(images, mapped, strict=True):
        assert after[before == 0].std() < 1e-4
        assert after[before == 1].std() < 1e-4
    assert mapped.flatten(1).max(1).values.unique().numel() == 6
    masks = images.long()
    assert torch.equal(transform(masks, seeds), masks)


def test_dice_is_that_of_all_pixels():
    masks = torch.tensor([[[[0, 1], [1, 2]]], [[[0, 0], [1, 2]]]])

    class Guess(torch.nn.Module):
        def forward(self, images):
            return torch.nn.functional.one_hot(images[:, 0].long(), 3).movedim(-1, 1).float()

    task = Segmentation(3)
    data = [{"image": mask.float(), "mask": mask} for mask in masks]
    assert task.score(Guess(), data) == 1
    data[0]["image"] = torch.tensor([[[0.0, 0.0], [1.0, 2.0]]])
    assert task.score(Guess(), data) == pytest.approx((2 * 2 / (2 + 3) + 1) / 2)
    assert task.score(Guess(), [{"image": 0.0 * mask, "mask": 0 * mask} for mask in masks]) == 0


def test_the_study_runs(tmp_path):
    pytest.importorskip("nilearn")
    text = EXAMPLES["cross-modality"]
    for long, short in (("= 600", "= 1"), ("= 300", "= 1"), ("= 5 ", "= 3 "), ("= 16 ", "= 4 "), ("= 8 ", "= 2 ")):
        assert text.count(long) == 1
        text = text.replace(long, short)
    path = tmp_path / "cross-modality.toml"
    path.write_text(text)
    study = load_study(path, tmp_path / "out")
    study.arms = [study.arms[k] for k in (2, 3, 4, 6)]
    split = study.splits[0]
    summary = study.run(tmp_path / "out")
    assert {name: arm["role"] for name, arm in summary["arms"].items()} == {
        "T1, random intensities, affine": "control",
        "look-up table 50%, affine": "control",
        "pix2pix 50%, affine": "synthetic",
        "oracle: true T2, affine": "oracle",
    }
    translated = study.arms[2].source(split)
    assert len(translated) == len(split.train) == 4
    assert not torch.equal(translated.images, split.train.images)
    assert torch.equal(translated.masks, split.train.masks)
    seen = {name.split(" deformation")[0] for name in translated.trained_on["samples"]}
    for data in (split.train, split.validation, split.test):
        assert not seen & {name.split(" deformation")[0] for name in data.ids}
