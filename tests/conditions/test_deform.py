from __future__ import annotations

import pickle
from functools import partial

import pytest
import torch
import torchio as tio

from torchgenaug import RealFields
from torchgenaug.conditions.deform import described
from torchgenaug.errors import FieldMismatchError


def masks(count=4, spatial=(16, 16)):
    torch.manual_seed(0)
    made = []
    for k in range(count):
        mask = torch.zeros(1, *spatial, dtype=torch.int64)
        mask[:, 3 + k : 12, 4 : 10 + k] = k + 1
        made.append({"mask": mask, "scan": mask.float() / 4})
    return made


def affine():
    return tio.RandomAffine(degrees=(0, 0, 0, 0, -40, 40), translation=(-3, 3, -3, 3, 0, 0))


def test_a_mask_is_new_each_time_and_a_function_of_its_id():
    conditions = RealFields(masks(), "mask", transform=affine())
    batch = conditions(range(8))
    plain = RealFields(masks(), "mask")(range(8))
    assert torch.equal(batch["parent"], plain["parent"])
    assert batch["mask"].dtype == torch.int64
    assert sum(not torch.equal(one, other) for one, other in zip(batch["mask"], plain["mask"], strict=True)) >= 7
    for parent in range(4):
        first, second = batch["mask"][batch["parent"] == parent]
        assert not torch.equal(first, second)
        assert set(first.unique().tolist()) == {0, parent + 1}  # nearest neighbour: no classes in between
    assert torch.equal(conditions([5])["mask"][0], batch["mask"][5])


def test_fields_of_a_sample_move_together():
    batch = RealFields(masks(), ["mask", "scan"], transform=affine())(range(6))
    inside = batch["mask"] > 0
    assert ((batch["scan"] > 0.5 * batch["mask"].amax((1, 2, 3), keepdim=True) / 4) == inside).float().mean() > 0.97


def test_volumes_and_functions():
    volumes = RealFields(masks(2, (9, 16, 8)), "mask", transform=tio.RandomFlip(axes=(0, 1, 2), flip_probability=0.9))
    assert volumes(range(4))["mask"].shape == (4, 1, 9, 16, 8)
    flipped = RealFields(masks(), "mask", transform=flip)
    plain = RealFields(masks(), "mask")
    assert torch.equal(flipped(range(4))["mask"], plain(range(4))["mask"].flip(-1))


def flip(sample):
    return {name: value.flip(-1) for name, value in sample.items()}


def clear(sample):
    sample["mask"].zero_()
    return sample


def crop(sample):
    return {"mask": sample["mask"][:, :4]}


def test_the_data_set_stays_as_it_is():
    data = masks()
    RealFields(data, "mask", transform=clear)(range(4))
    assert all(sample["mask"].any() for sample in data)


def test_random_numbers_of_others_are_left_alone():
    conditions = RealFields(masks(), "mask", transform=affine())
    torch.manual_seed(3)
    before = torch.get_rng_state()
    conditions([1])
    assert torch.equal(before, torch.get_rng_state())


def test_fingerprint_knows_the_transform_and_its_settings():
    transforms = [
        None,
        affine(),
        tio.RandomAffine(degrees=(0, 0, 0, 0, -41, 40), translation=(-3, 3, -3, 3, 0, 0)),
        tio.Compose([affine()]),
        tio.Compose([affine(), tio.RandomFlip(0)]),
        tio.Compose([affine(), tio.RandomFlip(1)]),
        flip,
        crop_nothing,
    ]
    prints = [RealFields(masks(), "mask", transform=transform).fingerprint for transform in transforms]
    assert len(set(prints)) == len(transforms)
    assert RealFields(masks(), "mask", transform=affine()).fingerprint == prints[1]
    copy = pickle.loads(pickle.dumps(RealFields(masks(), "mask", transform=affine())))
    assert copy.fingerprint == prints[1]
    assert torch.equal(copy([3])["mask"], RealFields(masks(), "mask", transform=affine())([3])["mask"])


def crop_nothing(sample):
    return sample


def add(sample, amount=1):
    return {name: value + amount for name, value in sample.items()}


def adder(amount):
    return lambda sample: {name: value + amount for name, value in sample.items()}


class Adder:
    def __init__(self, amount):
        self.amount = amount

    def add(self, sample):
        return add(sample, self.amount)


def nested(degrees, depth=6):
    transform = tio.RandomAffine(degrees=degrees)
    for _ in range(depth):
        transform = tio.Compose([transform])
    return transform


@pytest.mark.parametrize(
    "make",
    [
        lambda amount: partial(add, amount=amount),
        adder,
        lambda amount: Adder(amount).add,
        nested,
        lambda amount: tio.OneOf({tio.RandomAffine(degrees=amount): 1, tio.RandomFlip(): 1}),
        lambda amount: tio.Lambda(adder(amount)),
        lambda amount: (lambda sample: sample) if amount == 1 else (lambda sample: add(sample)),
    ],
)
def test_whatever_decides_a_transform_is_described(make):
    assert described(make(1)) == described(make(1))
    assert described(make(1)) != described(make(2))


class Cyclic:
    def __init__(self):
        self.me, self.weight, self.table = self, torch.ones(2), {"a": (1, 2.5)}


def test_descriptions_end_and_hold_no_addresses():
    assert described(Cyclic()) == described(Cyclic())
    assert " at 0x" not in described(object())
    assert described(torch.zeros(2)) != described(torch.ones(2))


def test_a_transform_that_changes_the_shape_is_found_at_once():
    with pytest.raises(
        FieldMismatchError, match=r"`transform` must hold 'mask' .*\(1, 16, 16\).*\(1, 4, 16\).*transformed"
    ):
        RealFields(masks(), "mask", transform=crop)
