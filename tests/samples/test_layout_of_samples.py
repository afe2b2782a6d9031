from __future__ import annotations

import pickle
from collections import OrderedDict, UserDict, defaultdict, namedtuple

import numpy as np
import pytest
import torch
import torchio as tio

from torchgenaug.mixing.dataset.fitting import ColumnFitting
from torchgenaug.samples.kinds import infer_kind
from torchgenaug.samples.layout import SampleLayout
from torchgenaug.samples.torchio_values import is_subject
from torchgenaug.types import FieldSpec

LARGE = torch.rand(1, 64, 64, 16)
Pair = namedtuple("Pair", ["image", "label"])


class Tagged(torch.Tensor):
    """A tensor with a class of its own, as MONAI's MetaTensor."""


VARIANTS = {
    "tensor": (LARGE, None),
    "tuple": ((LARGE, 3), ("image", "label")),
    "list": ([LARGE, 3], ("image", "label")),
    "namedtuple": (Pair(LARGE, 3), None),
    "dict": ({"image": LARGE, "label": 3}, None),
    "ordered": (OrderedDict(label=3, image=LARGE), None),
    "default": (defaultdict(int, image=LARGE, label=3), None),
    "user": (UserDict(image=LARGE, label=3), None),
    "tagged": ({"image": LARGE.as_subclass(Tagged), "label": 3}, None),
    "numpy": ({"image": LARGE.numpy(), "label": np.int64(3)}, None),
    "numpy tuple": ((LARGE.numpy(), 3), ("image", "label")),
    "subject": (tio.Subject(image=tio.ScalarImage(tensor=LARGE, affine=np.diag([2, 2, 2, 1])), label=3), None),
}


SPECS = {"image": FieldSpec((1, 64, 64, 16)), "label": FieldSpec((), torch.int64, kind="scalar")}


def layout_of(name):
    sample, fields = VARIANTS[name]
    return SampleLayout.of(sample, fields)


@pytest.mark.parametrize("name", VARIANTS)
def test_layouts_hold_no_voxels(name):
    """Workers are sent the layout: it must not grow with the images."""
    layout = layout_of(name)
    data = pickle.dumps(layout)
    assert len(data) < 5_000
    copy = pickle.loads(data)
    assert (copy.container, copy.names) == (layout.container, layout.names)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("travelled", [False, True])
def test_samples_of_a_batch_have_the_real_type(name, travelled):
    sample, _ = VARIANTS[name]
    layout = layout_of(name)
    if travelled:
        layout = pickle.loads(pickle.dumps(layout))
    batch = {"image": torch.rand(2, 1, 64, 64, 16), "label": torch.tensor([5, 6])}
    specs = {name: SPECS[name] for name in layout.names}
    made = ColumnFitting(layout, specs).samples(batch, 2)
    assert len(made) == 2
    for row, one in enumerate(made):
        assert type(one) is type(sample)
        fields = layout.split(one)
        assert np.array_equal(np.asarray(fields["image"]), batch["image"][row].numpy())
        assert type(fields["image"]) is type(layout.split(sample)["image"])
        if "label" in layout.names:
            assert fields["label"] == batch["label"][row]
            assert type(fields["label"]) is type(layout.split(sample)["label"])
    if name == "subject":
        assert made[0].spacing == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("name", VARIANTS)
def test_split_and_join_are_inverse(name):
    sample, _ = VARIANTS[name]
    layout = layout_of(name)
    again = layout.join(layout.split(sample), sample)
    assert type(again) is type(sample)
    for field, value in layout.split(again).items():
        assert np.array_equal(np.asarray(value), np.asarray(layout.split(sample)[field]))


def test_check_accepts_2d_fields_in_subjects():
    subject = tio.Subject(image=tio.ScalarImage(tensor=torch.rand(1, 8, 9, 1)))
    ColumnFitting(SampleLayout.of(subject), {"image": FieldSpec((1, 8, 9))})


def test_parent_is_provenance_and_no_surplus():
    layout = SampleLayout.of({"image": LARGE})
    ColumnFitting(layout, {"image": FieldSpec(tuple(LARGE.shape)), "parent": FieldSpec((), torch.int64, kind="scalar")})


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.rand(1, 2, 2), "intensity"),
        (torch.ones(1, 2, 2).long(), "label_map"),
        (np.ones((1, 2, 2), np.uint8), "label_map"),
        (tio.ScalarImage(tensor=torch.rand(1, 2, 2, 1)), "intensity"),
        (3, "scalar"),
        (torch.tensor(3.0), "scalar"),
        (torch.rand(5), "scalar"),
    ],
)
def test_infer_kind(value, kind):
    assert infer_kind("x", value) == kind


def test_is_subject():
    assert is_subject(VARIANTS["subject"][0])
    assert not is_subject({"image": 1})
