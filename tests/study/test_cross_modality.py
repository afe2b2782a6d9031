"""The cross-modality study in a tiny version: what arms hold, and that nothing of it leaks; never scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug.datasets.brain_contrasts import simulate
from torchgenaug.datasets.second_brain import second_brain, second_brain_there
from torchgenaug.study.config import load_study
from torchgenaug.study.examples import EXAMPLES
from torchgenaug.study.intensity_maps import RandomIntensityMap, apply_intensity_map, fit_intensity_map
from torchgenaug.study.segmentation import Segmentation, segmentation_loss
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


def plain_tissues(count):
    """Fractions of CSF, grey and white matter: an ellipse in an ellipse in an ellipse."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    tissues, masks = [], []
    for k in range(count):
        distance = torch.hypot((rows - 32) / (1.2 + 0.02 * (k % 5)), columns - 32)
        csf, grey, white = (((edge - distance) / 2 + 0.5).clamp(0, 1) for edge in (24, 22, 15))
        parts = torch.stack([csf - grey, grey - white, white])
        tissues.append(parts)
        masks.append(torch.cat([1 - parts.sum(0, keepdim=True), parts]).argmax(0, keepdim=True))
    return torch.stack(tissues), torch.stack(masks)


def plain_pairs(split, lesions):
    """In place of the deformed brain, which takes seconds."""
    return simulate(*plain_tissues(350 if split == "train" else 54), 0, lesions=lesions)


def test_the_study_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("torchgenaug.datasets.brain_contrasts._VARIANTS", {"train": 5, "held_out": 3})  # as users have
    monkeypatch.setattr("torchgenaug.datasets.brain_contrasts._pairs", plain_pairs)
    text = EXAMPLES["cross-modality"]
    for long, short in (
        ("= 400", "= 1"),
        ("= 300", "= 1"),
        ("= 5 ", "= 3 "),
        ("= 16 ", "= 4 "),
        ("batch_size = 4", "batch_size = 2"),
    ):
        assert text.count(long) == 1
        text = text.replace(long, short)
    path = tmp_path / "cross-modality.toml"
    path.write_text(text)
    study = load_study(path, tmp_path / "out")
    study.arms = [study.arms[k] for k in (2, 3, 5, 6)]
    split = study.splits[0]
    summary = study.run(tmp_path / "out")
    assert {name: arm["role"] for name, arm in summary["arms"].items()} == {
        "T1, random intensities, affine": "control",
        "look-up table only, affine": "control",
        "pix2pix only, affine": "synthetic",
        "oracle: true T2, affine": "oracle",
    }
    translated = study.arms[2].source(split)
    assert len(translated) == len(split.train) == 4
    assert not torch.equal(translated.images, split.train.images)
    assert torch.equal(translated.masks, split.train.masks)
    seen = {name.split(" deformation")[0] for name in translated.trained_on["samples"]}
    for data in (split.train, split.validation, split.test):
        assert not seen & {name.split(" deformation")[0] for name in data.ids}


def test_with_lesions_no_table_gives_the_other_contrast():
    tissues, healthy = plain_tissues(12)
    errors = {}
    for lesions in (False, True):
        t1, t2, masks = simulate(tissues, healthy, 0, lesions=lesions)
        table = fit_intensity_map(t1, t2)
        errors[lesions] = float((apply_intensity_map(t1, table) - t2).abs().mean())
    assert errors[True] > 2 * errors[False]
    ill = masks == 4
    assert 0.005 < ill.float().mean() < 0.1
    assert healthy[ill].min() > 1
    # Between grey and white matter on T1, and brighter than both on T2.
    on_t1, on_t2 = ([each[masks == k].mean() for k in (2, 3, 4)] for each in (t1, t2))
    assert on_t1[0] < on_t1[2] < on_t1[1]
    assert on_t2[2] > 1.4 * max(on_t2[:2])


def test_the_second_brain_lies_as_the_first(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    voxels = np.zeros((181, 217, 181), np.uint8)
    voxels[60:120, 60:160, 50:120] = 80  # 60 x 100 mm, centred 0 and -15 mm from the origin
    voxels[70:110, 90:140, 50:120] = 120
    voxels[76:104, 64:84, 50:120] = 30
    affine = np.diag([1.0, 1, 1, 1])
    affine[:3, 3] = -90, -125, -71
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "ch2bet.nii.gz")
    assert second_brain_there(tmp_path)
    t1, t2, masks = second_brain(tmp_path)
    assert t1.shape == t2.shape == masks.shape == (20, 1, 64, 64)
    middle = masks[8, 0]
    # The window begins at -96 and -113 mm, pixels are 3 mm wide: columns 22 to 41 and rows 16 to 49.
    assert middle[22:42, 16:49].min() > 0
    assert middle.sum() == middle[22:42, 16:50].sum()
    assert middle[32, 32] == 3
    assert middle[32, 20] == 1
    assert t2[8, 0, 32, 20] > t2[8, 0, 24, 24] > t2[8, 0, 32, 32]
    assert not second_brain_there(tmp_path / "other")


def test_soft_dice_rewards_a_small_lesion_that_is_found():
    masks = torch.zeros(2, 1, 16, 16, dtype=torch.int64)
    masks[:, :, 3:5, 3:5] = 1
    right = 20.0 * torch.nn.functional.one_hot(masks[:, 0], 2).movedim(-1, 1)
    nothing = torch.zeros_like(right)
    nothing[:, 0] = 20
    assert segmentation_loss(right, masks) < 1e-3
    entropy = torch.nn.functional.cross_entropy(nothing, masks[:, 0])
    assert segmentation_loss(nothing, masks) - entropy == pytest.approx(1 - 1 / 9, abs=1e-3)
