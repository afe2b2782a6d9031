from __future__ import annotations

import pickle

import pytest
import torch

from torchgenaug import FieldSpec, FunctionSynthesizer, SyntheticSequence
from torchgenaug.conditions import PlacedLesions
from torchgenaug.conditions.regions import bent, fitting_places, numbers_of_bent, numbers_of_round, round_regions
from torchgenaug.errors import ConfigurationError, FieldMismatchError


def healthy(count=5, spatial=(24, 20), radius=8):
    """Random images with a round organ that is not quite in the middle."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(size) for size in spatial), indexing="ij")).float()
    draw = torch.Generator().manual_seed(0)
    samples = []
    for k in range(count):
        middle = torch.tensor([size / 2 + k - 2 for size in spatial]).view(-1, *[1] * len(spatial))
        organ = (grid - middle).norm(dim=0, keepdim=True) < radius
        samples.append({"image": torch.rand((1, *spatial), generator=draw), "organ": organ.long()})
    return samples


def patients(count=4, spatial=(24, 20), classes=2):
    """Masks of rectangles, of two classes where there are three."""
    samples = []
    for k in range(count):
        mask = torch.zeros((1, *spatial), dtype=torch.int64)
        mask[(0, slice(8, 11 + k), *[slice(7, 12)] * (len(spatial) - 1))] = 1
        if classes == 3:
            mask[(0, slice(9, 10), *[slice(8, 10)] * (len(spatial) - 1))] = 2
        samples.append({"mask": mask})
    return samples


def placed(real=None, lesions=None, **options):
    return PlacedLesions(real or healthy(), lesions or patients(), **{"value_range": (0, 1)} | options)


@pytest.mark.parametrize(("spatial", "classes"), [((24, 20), 2), ((24, 20), 3), ((16, 18, 16), 2)])
def test_lesions_lie_in_the_organ_and_the_rest_is_the_real_image(spatial, classes):
    real = healthy(spatial=spatial, radius=7)
    made = placed(real, patients(spatial=spatial, classes=classes), num_classes=classes)
    batch = made(range(15))
    assert sorted(batch["parent"].tolist()) == sorted([*range(5)] * 3)
    for source, mask, parent in zip(batch["source"], batch["mask"], batch["parent"], strict=True):
        hidden = mask[0] > 0
        assert hidden.any()
        assert not (hidden & (real[int(parent)]["organ"][0] == 0)).any()
        assert torch.equal(source[0][~hidden], real[int(parent)]["image"][0][~hidden])
        assert (source[0][hidden] == 0).all()
        for k in range(1, classes):
            assert torch.equal(source[k], (mask[0] == k).float())
    assert {name: tuple(value.shape[1:]) for name, value in batch.items()} == {
        name: spec.shape for name, spec in made.fields.items()
    }
    assert len({mask.sum().item() for mask in batch["mask"]}) > 5


def test_masks_that_mark_nothing_are_not_used_however_many():
    many = [{"mask": torch.zeros(1, 24, 20).long()}] * 30
    lesions = [*many, *patients(count=2), *many]
    made = placed(lesions=lesions)
    masks = made(range(20))["mask"]
    assert masks.flatten(1).any(1).all()
    assert torch.equal(masks, placed(lesions=patients(count=2))(range(20))["mask"])
    lesions[31] = {"mask": lesions[31]["mask"] * 255}
    with pytest.raises(ConfigurationError, match=r"got 255 at index 31\. Map the classes.*\(mask > 0\)\.long\(\)"):
        placed(lesions=lesions)(range(2))
    fixed = [{"mask": (sample["mask"] > 0).long()} for sample in lesions]
    assert torch.equal(placed(lesions=fixed)(range(20))["mask"], masks)


def test_a_sample_is_a_function_of_seed_and_id():
    one, again, other = placed(), pickle.loads(pickle.dumps(placed())), placed(seed=1)
    for k in (0, 3, 11):
        alone = one([k])
        assert torch.equal(alone["mask"], again([5, k, 2])["mask"][1:2])
    assert not torch.equal(one(range(4))["mask"], other(range(4))["mask"])
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_image_and_mask_come_together():
    def paint(seeds, conditions):
        image, mark = conditions["source"].split(1, 1)
        return {"image": torch.where(mark > 0.5, 1.0, image)}

    painter = FunctionSynthesizer(paint, {"image": FieldSpec((1, 24, 20), value_range=(0, 1))}, fingerprint="white")
    batch = SyntheticSequence(painter, placed()).batch([0, 1, 2])
    assert (batch["image"][batch["mask"] > 0] == 1).all()
    assert set(batch) == {"image", "mask", "source", "parent"}


def test_lesions_stay_near_where_they_were():
    real = healthy(count=1, spatial=(40, 40), radius=19)
    lesions = patients(count=1, spatial=(40, 40))
    near, far = (placed(real, lesions, spread=spread)(range(30))["mask"] for spread in (0.03, None))
    there = torch.tensor([9.0, 9.0])
    distance = [
        torch.stack([(mask[0].nonzero().float().mean(0) - there).norm() for mask in masks]).mean()
        for masks in (near, far)
    ]
    assert distance[0] < 5 < distance[1]


@pytest.mark.parametrize(
    ("real", "lesions", "options", "error", "message"),
    [
        (healthy(radius=2), [{"mask": torch.ones(1, 24, 20).long()}], {}, ConfigurationError, "room for a lesion"),
        (healthy(radius=0), None, {}, ConfigurationError, "0 voxels inside of it at index"),
        (None, [{"mask": torch.zeros(1, 24, 20).long()}] * 2, {}, ConfigurationError, "masks that are not empty"),
        (None, patients(classes=3), {}, ConfigurationError, r"classes in \[0, 2\), got 2.*num_classes=3"),
        (None, [{"mask": torch.zeros(1, 24, 20)}], {}, ConfigurationError, "field of integer masks"),
        (None, patients(spatial=(8, 8, 8)), {}, ConfigurationError, "as many axes as the images"),
        (None, None, {"spread": 0.0}, ConfigurationError, "`spread` must be positive"),
        (None, None, {"value_range": (1, 0)}, ConfigurationError, "low < high"),
        (None, None, {"num_classes": 1}, ConfigurationError, "`num_classes` must be an integer of at least 2"),
    ],
)
def test_what_cannot_be_placed_is_refused(real, lesions, options, error, message):
    with pytest.raises(error, match=message):
        placed(real, lesions, **options)([0])


def test_a_region_outside_of_the_image_is_refused():
    real = [{**sample, "organ": torch.ones(1, 30, 20).long()} for sample in healthy()]
    with pytest.raises(FieldMismatchError, match="put outside of the image"):
        placed(real)
    assert len(fitting_places(torch.ones(5, 5).long(), torch.ones(4, 8).bool())) == 0


def test_a_box_fits_where_none_of_it_is_outside():
    draw = torch.Generator().manual_seed(0)
    for shape, size in (((13, 10), (3, 4)), ((9, 8, 7), (2, 3, 2))):
        organ = torch.rand(shape, generator=draw) < 0.9
        box = (torch.rand(size, generator=draw) < 0.7).long()
        found = {tuple(place) for place in fitting_places(box, organ).tolist()}
        corners = torch.cartesian_prod(*(torch.arange(a - b + 1) for a, b in zip(shape, size, strict=True))).tolist()
        for corner in corners:
            part = organ[tuple(slice(a, a + b) for a, b in zip(corner, size, strict=True))]
            assert (tuple(corner) in found) == bool(part[box > 0].all())
        assert found


@pytest.mark.parametrize("spatial", [(16, 24), (8, 9, 10)])
def test_round_and_bent_regions_are_never_empty(spatial):
    draw = torch.Generator().manual_seed(0)
    numbers = torch.rand((40, numbers_of_round(len(spatial))), generator=draw)
    regions = round_regions(numbers, spatial)
    assert regions.shape == (40, 1, *spatial)
    assert regions.flatten(1).any(1).all()
    assert regions.flatten(1).float().mean(1).max() < 0.5
    for region in regions[:10, 0]:
        box = bent(region.long(), torch.rand(numbers_of_bent(len(spatial)), generator=draw))
        assert box.numel() > 0
        assert all((box.select(axis, end) > 0).any() for axis in range(box.ndim) for end in (0, -1))
