from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
import torchio as tio

from torchgenaug.errors import ConfigurationError
from torchgenaug.samples.layout import SampleLayout
from torchgenaug.samples.random_sources import draws_from_torch_only
from torchgenaug.samples.seeded_transform import SeededTransform

SPATIAL = tio.Compose(
    [
        tio.RandomAffine(degrees=(0, 0, 0, 0, -20, 20), scales=(0.9, 1.1, 0.9, 1.1, 1, 1), translation=0),
        tio.RandomElasticDeformation(num_control_points=(5, 5, 5), max_displacement=(2, 2, 0)),
    ]
)
ALL = tio.Compose([SPATIAL, tio.RandomNoise(), tio.RandomBlur((0, 1, 0, 1, 0, 0)), tio.RandomGamma()])
KINDS = {"image": "intensity", "mask": "label_map", "label": "scalar"}
SEEDS = np.array([3, 4], np.uint64)


def pair(image_dtype=torch.float32, mask_dtype=torch.int64, shape=(1, 20, 16)):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(image_dtype)
    mask = torch.zeros(shape)
    mask[..., 4:15, 3:12] = 3
    return {"image": image, "mask": mask.to(mask_dtype), "label": 1}


@pytest.mark.parametrize("image_dtype", [torch.float32, torch.float16, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("mask_dtype", [torch.int64, torch.uint8, torch.int16, torch.bool])
def test_dtypes_and_axes_come_back(image_dtype, mask_dtype):
    sample = pair(image_dtype, mask_dtype)
    for moved in SeededTransform(ALL, SampleLayout.of(sample), KINDS)([sample, sample], SEEDS):
        assert moved["image"].dtype == image_dtype
        assert moved["mask"].dtype == mask_dtype
        assert moved["image"].shape == moved["mask"].shape == (1, 20, 16)
        assert set(moved["mask"].unique().tolist()) <= {0, 3 if mask_dtype != torch.bool else 1}
        assert moved["label"] == 1
        assert list(moved) == ["image", "mask", "label"]


def test_every_layout_sees_the_same_parameters():
    sample = pair()
    images = []
    for variant, fields in (
        (sample, None),
        ((sample["image"], sample["mask"], 1), ("image", "mask", "label")),
        ({"image": sample["image"].numpy(), "mask": sample["mask"].numpy(), "label": 1}, None),
        (
            tio.Subject(
                image=tio.ScalarImage(tensor=sample["image"][..., None]),
                mask=tio.LabelMap(tensor=sample["mask"][..., None]),
                label=1,
            ),
            None,
        ),
    ):
        layout = SampleLayout.of(variant, fields)
        moved = layout.split(SeededTransform(ALL, layout, KINDS)([variant], SEEDS[:1])[0])
        images.append((torch.as_tensor(moved["image"]).reshape(20, 16), torch.as_tensor(moved["mask"]).reshape(20, 16)))
        assert torch.as_tensor(moved["mask"]).dtype == torch.int64
    for image, mask in images[1:]:
        assert torch.equal(image, images[0][0])
        assert torch.equal(mask, images[0][1])


def test_the_seed_decides_and_nothing_else():
    sample = pair()
    transform = SeededTransform(ALL, SampleLayout.of(sample), KINDS)
    first, second = transform([sample, sample], SEEDS)
    assert not torch.equal(first["image"], second["image"])
    torch.manual_seed(77)
    copy = pickle.loads(pickle.dumps(transform))
    assert torch.equal(copy([sample], SEEDS[1:])[0]["image"], second["image"])


def test_the_original_is_not_changed():
    sample = pair()
    before = {name: value.clone() for name, value in sample.items() if name != "label"}
    SeededTransform(ALL, SampleLayout.of(sample), KINDS)([sample], SEEDS[:1])
    assert all(torch.equal(sample[name], value) for name, value in before.items())


def test_half_precision_subjects():
    subject = tio.Subject(image=tio.ScalarImage(tensor=pair()["image"].half()[..., None]))
    moved = SeededTransform(tio.RandomBlur(), SampleLayout.of(subject), KINDS)([subject], SEEDS[:1])[0]
    assert moved.image.data.dtype == torch.float16
    assert subject.image.data.dtype == torch.float16


def test_integer_images_become_what_torchio_makes_of_them():
    """int16 is what most NIfTI files hold: rounding back would turn a normalised image into a few steps."""
    image = (torch.rand(1, 8, 8, 8) * 1000).to(torch.int16)
    plain = tio.ZNormalization()(tio.ScalarImage(tensor=image)).data
    for sample in ({"image": image}, tio.Subject(image=tio.ScalarImage(tensor=image))):
        layout = SampleLayout.of(sample)
        moved = SeededTransform(tio.ZNormalization(), layout, {"image": "intensity"})([sample], SEEDS[:1])[0]
        assert torch.equal(layout.split(moved)["image"], plain)


@pytest.mark.parametrize("spatial", [(20, 16), (9, 8, 7)])
@pytest.mark.parametrize("numpy", [False, True])
def test_masks_without_a_channel_axis_move_with_their_image(spatial, numpy):
    mask = torch.zeros(spatial, dtype=torch.int64)
    mask[2:7, 3:7] = 1
    image = mask[None].float()
    sample = {"image": image, "mask": mask}
    if numpy:
        sample = {name: value.numpy() for name, value in sample.items()}
    flip = tio.RandomFlip(axes=(0, 1), flip_probability=1)
    moved = SeededTransform(flip, SampleLayout.of(sample), KINDS)([sample], SEEDS[:1])[0]
    assert torch.equal(torch.as_tensor(moved["mask"]), mask.flip(0, 1))
    assert torch.equal(torch.as_tensor(moved["image"])[0].long(), torch.as_tensor(moved["mask"]))


def test_bare_slices_are_transformed():
    sample = torch.rand(6, 5)
    flip = tio.RandomFlip(axes=(0,), flip_probability=1)
    moved = SeededTransform(flip, SampleLayout.of(sample), {"image": "intensity"})([sample], SEEDS[:1])[0]
    assert torch.equal(moved, sample.flip(0))


def test_a_field_that_cannot_move_with_the_image_is_refused():
    sample = {"image": torch.rand(1, 6, 6, 6), "mask": torch.ones(6, 5, 6).long()}
    with pytest.raises(
        ConfigurationError, match=r"(?s)'mask' must have the shape \(channels, \*spatial\).*\(6, 5, 6\)"
    ):
        SeededTransform(SPATIAL, SampleLayout.of(sample), KINDS)([sample], SEEDS[:1])


class OwnGenerator:
    """As MONAI's Randomizable."""

    def __init__(self):
        self.generator = np.random.RandomState(0)

    def set_random_state(self, seed=None, state=None):
        self.generator = np.random.RandomState(seed)
        return self

    def __call__(self, sample):
        return {**sample, "image": sample["image"] + self.generator.rand()}


def numpy_noise(image):
    return image + float(np.random.rand())


@pytest.mark.parametrize("transform", [OwnGenerator(), tio.Compose([tio.Lambda(numpy_noise)])])
def test_every_generator_is_seeded(transform):
    sample = pair()
    before = pickle.dumps(np.random.get_state())
    seeded = SeededTransform(transform, SampleLayout.of(sample), KINDS)
    first, second = seeded([sample, sample], SEEDS)
    assert not torch.equal(first["image"], second["image"])
    assert torch.equal(seeded([sample], SEEDS[1:])[0]["image"], second["image"])
    assert pickle.dumps(np.random.get_state()) == before


def in_place(sample):
    sample["image"] = sample["image"] * 2
    return sample


def forgetful(sample):
    sample["image"] = sample["image"] * 2


def test_functions_get_a_copy_and_must_return_it():
    sample = pair()
    before = sample["image"].clone()
    layout = SampleLayout.of(sample)
    assert torch.equal(SeededTransform(in_place, layout, KINDS)([sample], SEEDS[:1])[0]["image"], before * 2)
    assert torch.equal(sample["image"], before)
    with pytest.raises(ConfigurationError, match=r"got None from .*Did you forget `return`\?"):
        SeededTransform(forgetful, layout, KINDS)([sample], SEEDS[:1])


def test_samples_without_images_pass_through():
    sample = {"label": 3}
    assert SeededTransform(ALL, SampleLayout.of(sample), {"label": "scalar"})([sample], SEEDS[:1])[0] is sample


class Inherited(tio.RandomFlip):
    pass


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (ALL, True),
        (tio.Compose([tio.OneOf({tio.RandomNoise(): 0.5, tio.RandomMotion(): 0.5}), tio.ZNormalization()]), True),
        (tio.ZNormalization(masking_method=tio.ZNormalization.mean), True),
        (tio.ZNormalization(masking_method=lambda image: image > np.random.random()), False),
        (tio.Compose([ALL, tio.Lambda(lambda image: image * np.random.random())]), False),
        (tio.OneOf([Inherited(), tio.RandomFlip()]), False),
        (lambda sample: sample, False),
    ],
)
def test_what_draws_from_torch_only(transform, expected):
    assert draws_from_torch_only(transform) == expected


def test_torchio_draws_the_same_whether_others_are_seeded_or_not():
    layout = SampleLayout.of(pair())
    lean, full = (SeededTransform(ALL, layout, KINDS) for _ in range(2))
    full._torch_only = False
    np.random.seed(5)
    random.seed(5)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    one, two = (transform([pair(), pair()], SEEDS) for transform in (lean, full))
    assert lean._torch_only
    for left, right in zip(one, two, strict=True):
        assert torch.equal(left["image"], right["image"])
        assert torch.equal(left["mask"], right["mask"])
    assert not torch.equal(one[0]["image"], one[1]["image"])
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
