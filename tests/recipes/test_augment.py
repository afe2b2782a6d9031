from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug.recipes.augment import mild_affine
from torchgenaug.seeding import derive
from torchgenaug.types import FieldSpec


def dots(spatial, *places):
    """Smooth dots at places given in pixels."""
    grids = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in spatial), indexing="ij")
    images = [sum(((grid - at) ** 2 for grid, at in zip(grids, place, strict=True))) for place in places]
    return torch.stack([torch.exp(-square / 8) for square in images]).float()


def centre(image):
    total = image.double().sum()
    grids = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in image.shape), indexing="ij")
    return np.array([float((grid * image).sum() / total) for grid in grids])


@pytest.mark.parametrize("spatial", [(64, 96), (96, 64), (32, 48, 40)])
def test_it_turns_scales_and_shifts_by_what_it_says(spatial):
    """Three dots are moved; their mutual distances in pixels tell a rotation from a shear."""
    middle = [(size - 1) / 2 for size in spatial]
    far = 12.0
    along = [m + (far if axis == 0 else 0) for axis, m in enumerate(middle)]
    across = [m + (far if axis == 1 else 0) for axis, m in enumerate(middle)]
    image = dots(spatial, middle, along, across)[None]
    spec = {"image": FieldSpec((3, *spatial), value_range=(0, 1))}
    angles = []
    for seed in range(20):
        moved = mild_affine({"image": image}, spec, derive(np.array([seed])))["image"][0]
        zero, one, two = (centre(each) for each in moved)
        first, second = one - zero, two - zero
        assert np.all(np.abs(zero - middle) <= 0.045 * np.array(spatial) * 1.06 + 0.2)
        for arm in (first, second):
            assert far / 1.065 - 0.3 <= np.linalg.norm(arm) <= far / 0.935 + 0.3
        cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
        assert abs(cosine) < 0.14  # arms of unequal scale are not quite at right angles
        angles.append(np.degrees(np.arctan2(first[1], first[0])))
        assert abs(np.degrees(np.arctan2(-second[0], second[1])) - angles[-1]) < 2
    assert max(np.abs(angles)) < 8
    assert max(angles) > 2
    assert min(angles) < -2


def test_masks_keep_their_classes_and_scalars_their_values():
    spec = {
        "mask": FieldSpec((1, 16, 16), torch.int64, kind="label_map", value_range=(0, 5)),
        "label": FieldSpec((), torch.int64, kind="scalar"),
    }
    mask = torch.randint(0, 2, (4, 1, 16, 16)) * 5
    moved = mild_affine({"mask": mask, "label": torch.arange(4)}, spec, derive(np.arange(4)))
    assert moved["mask"].dtype == torch.int64
    assert set(moved["mask"].unique().tolist()) == {0, 5}
    assert moved["label"].tolist() == [0, 1, 2, 3]


def test_a_sample_depends_on_its_own_seed_alone():
    spec = {"image": FieldSpec((1, 16, 16), value_range=(0, 1))}
    images = torch.rand(4, 1, 16, 16)
    whole = mild_affine({"image": images}, spec, derive(np.arange(4)))["image"]
    single = mild_affine({"image": images[2:3]}, spec, derive(np.array([2])))["image"]
    assert torch.equal(single[0], whole[2])
