from __future__ import annotations

import itertools
import pickle
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchgenaug.conditions import RealFields
from torchgenaug.contracts import Conditions
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.synthesizers import FunctionSynthesizer
from torchgenaug.types import FieldSpec


def sample(k):
    return {"image": torch.full((1, 4, 4), float(k)), "mask": torch.full((1, 4, 4), k), "label": k, "age": k / 2}


class Pair(NamedTuple):
    image: torch.Tensor
    mask: torch.Tensor


@given(st.integers(1, 30), st.integers(0, 1 << 60), st.integers(0, 5))
def test_every_parent_is_used_equally_often(length, seed, rounds):
    conditions = RealFields([sample(k) for k in range(length)], "mask", seed=seed)
    extra = length // 2
    parents = conditions.parents(range(rounds * length + extra))
    counts = np.bincount(parents, minlength=length)
    assert counts.min() >= rounds
    assert counts.max() <= rounds + (extra > 0)
    assert all(sorted(parents[k * length : (k + 1) * length]) == list(range(length)) for k in range(rounds))


@given(st.lists(st.integers(0, 1 << 61), min_size=1, max_size=10))
def test_fields_belong_to_the_parent_and_to_the_id_alone(ids):
    conditions = RealFields([sample(k) for k in range(7)], ["image", "mask", "label", "age"])
    batch = conditions(ids)
    parents = batch["parent"]
    assert torch.equal(batch["image"][:, 0, 0, 0], parents.float())
    assert torch.equal(batch["mask"][:, 0, 3, 3], parents)
    assert torch.equal(batch["label"], parents)
    assert torch.equal(batch["age"], parents / 2)
    assert [conditions([one])["parent"].item() for one in ids] == parents.tolist()


def test_order_changes_from_round_to_round_and_with_the_seed():
    data = [sample(k) for k in range(20)]
    rounds = RealFields(data, "mask").parents(range(60)).reshape(3, 20)
    assert len({tuple(one) for one in rounds.tolist()}) == 3
    assert RealFields(data, "mask", seed=1).parents(range(20)).tolist() != rounds[0].tolist()


def subject(k):
    tio = pytest.importorskip("torchio")
    image = tio.ScalarImage(tensor=torch.full((1, 4, 4, 1), float(k)))
    return tio.Subject(image=image, mask=tio.LabelMap(tensor=torch.full((1, 4, 4, 1), float(k))))


@pytest.mark.parametrize(
    ("make", "fields", "shape"),
    [
        (sample, None, (1, 4, 4)),
        (lambda k: (sample(k)["image"], sample(k)["mask"]), ("image", "mask"), (1, 4, 4)),
        (lambda k: [sample(k)["image"].numpy(), sample(k)["mask"].numpy()], ("image", "mask"), (1, 4, 4)),
        (lambda k: Pair(sample(k)["image"], sample(k)["mask"]), None, (1, 4, 4)),
        (subject, None, (1, 4, 4, 1)),
    ],
)
def test_sample_types(make, fields, shape):
    conditions = RealFields([make(k) for k in range(5)], ("image", "mask"), fields=fields)
    assert conditions.fields["image"] == FieldSpec(shape)
    assert conditions.fields["mask"] == FieldSpec(shape, torch.int64, kind="label_map")
    assert conditions.fields["parent"] == FieldSpec((), torch.int64, kind="scalar", value_range=(0, 4))
    batch = conditions(range(5))
    assert torch.equal(batch["image"].flatten(1)[:, 0], batch["parent"].float())
    assert torch.equal(batch["mask"].flatten(1)[:, 0], batch["parent"])


def from_mask(seeds, conditions):
    return {"image": conditions["mask"].float() * 2}


def test_a_sequence_hands_masks_and_parents_on():
    synthesizer = FunctionSynthesizer(from_mask, {"image": FieldSpec((1, 4, 4))}, fingerprint="twice the mask")
    conditions = RealFields([sample(k) for k in range(3)], "mask")
    batch = SyntheticSequence(synthesizer, conditions, screens=()).batch(range(6))
    assert torch.equal(batch["image"][:, 0, 0, 0], batch["parent"] * 2.0)
    assert sorted(batch["parent"].tolist()) == [0, 0, 1, 1, 2, 2]


def test_contract():
    conditions = RealFields([sample(k) for k in range(3)], "mask")
    assert isinstance(conditions, Conditions)
    copy = pickle.loads(pickle.dumps(conditions))
    assert copy.fingerprint == conditions.fingerprint
    assert torch.equal(copy(range(9))["mask"], conditions(range(9))["mask"])
    assert repr(conditions) == "RealFields(list of 3, ['mask'], seed=0)"
    assert RealFields([sample(0)], "mask")(range(3))["parent"].tolist() == [0, 0, 0]


def test_fingerprint_covers_names_seed_length_and_data():
    data = [sample(k) for k in range(5)]
    variants = [
        RealFields(data, "mask"),
        RealFields(data, "image"),
        RealFields(data, ("image", "mask")),
        RealFields(data, "mask", seed=1),
        RealFields(data[:4], "mask"),
        RealFields([sample(k + 1) for k in range(5)], "mask"),
        RealFields([*data[:4], sample(9)], "mask"),
    ]
    assert len({one.fingerprint for one in variants}) == len(variants)
    assert RealFields([sample(k) for k in range(5)], "mask").fingerprint == variants[0].fingerprint


class Changing:
    def __init__(self):
        self.calls = itertools.count()

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return {"mask": torch.full((1, 4, 4), next(self.calls))}


@pytest.mark.parametrize(
    ("dataset", "options", "error", "message"),
    [
        ([], {}, EmptyDatasetError, "`dataset` must hold at least one sample"),
        (iter([sample(0)]), {}, ConfigurationError, "must have a length.*got list_iterator.*into a list"),
        ([sample(0)], {"names": ()}, ConfigurationError, r"`names` must be different field names.*got \(\)"),
        ([sample(0)], {"names": ("mask", "mask")}, ConfigurationError, "`names` must be different"),
        ([sample(0)], {"names": "parent"}, ConfigurationError, "other than 'parent'"),
        ([sample(0)], {"names": "msk"}, ConfigurationError, r"got \['msk'\] at index 0, which has \['age', 'image'"),
        ([sample(0)], {"seed": 1.5}, ConfigurationError, "`seed` must be an integer"),
        ([(1, 2)], {}, ConfigurationError, r"`fields` must name the positions of samples of type tuple, got None"),
        ([torch.zeros(1)], {}, ConfigurationError, "samples of type Tensor"),
        (
            [{"mask": torch.zeros(4, 4, dtype=torch.int64)}],
            {"transform": dict},
            ConfigurationError,
            r"got \['mask'\] with two axes.*mask\[None\]",
        ),
        ([{"mask": "text"}], {}, ConfigurationError, "got str for 'mask' at index 0"),
        (Changing(), {}, ConfigurationError, "two different 'mask' at index 0.*without its random transforms"),
    ],
)
def test_bad_arguments(dataset, options, error, message):
    with pytest.raises(error, match=message):
        RealFields(dataset, **({"names": "mask"} | options))


def test_samples_of_another_shape_are_named():
    data = [sample(0), sample(1), {"mask": torch.zeros(1, 4, 5)}]
    with pytest.raises(
        FieldMismatchError, match=r"int64 of shape \(1, 4, 4\).*float32 of shape \(1, 4, 5\) at index 2"
    ):
        RealFields(data, "mask")(range(3))


def test_random_samples_are_found_at_other_places_than_the_first():
    class Late:
        def __init__(self):
            self.calls = itertools.count()

        def __len__(self):
            return 7

        def __getitem__(self, index):
            return {"mask": torch.full((1, 4, 4), next(self.calls) if index == 6 else 0)}

    with pytest.raises(ConfigurationError, match="two different 'mask' at index 6"):
        RealFields(Late(), "mask")
