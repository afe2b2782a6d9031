from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.mixing.loader.batches import BatchLayout
from torchgenaug.mixing.loader.row_conversion import RowConversion
from torchgenaug.types import FieldSpec

Pair = namedtuple("Pair", ["image", "label"])
IMAGE, LABEL = torch.rand(3, 1, 4, 4), torch.arange(3)
BATCHES = {
    "tensor": (IMAGE, None),
    "tuple": ((IMAGE, LABEL), ("image", "label")),
    "list": ([IMAGE, LABEL], ("image", "label")),
    "namedtuple": (Pair(IMAGE, LABEL), None),
    "dict": ({"image": IMAGE, "label": LABEL}, None),
    "ordered dict": (OrderedDict(label=LABEL, image=IMAGE), None),
    "other mapping": (UserDict(image=IMAGE, label=LABEL), None),
    "torchio": (
        {
            "image": {
                "data": IMAGE[..., None],
                "affine": np.stack([k * np.eye(4) for k in range(3)]),
                "spacing": torch.arange(3.0)[:, None],
                "path": ["a", "b", "c"],
                "type": ["intensity"] * 3,
                "note": "one for all",
            },
            "label": LABEL,
        },
        None,
    ),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_what_is_taken_apart_is_put_together_again(kind):
    batch, fields = BATCHES[kind]
    layout = BatchLayout.of(batch, fields)
    tensors = layout.tensors(batch)
    again = layout.build(batch, [tensor + 1 for tensor in tensors])
    assert type(again) is type(batch)
    for before, after in zip(tensors, layout.tensors(again), strict=True):
        assert torch.equal(after, before + 1)
    assert all(a is b for a, b in zip(layout.tensors(batch), tensors, strict=True)), "the batch itself is left alone"
    if kind.endswith(("dict", "mapping", "torchio")):
        assert list(again) == list(batch)


@given(st.lists(st.integers(0, 2), unique=True), st.integers(0, 3))
def test_what_lies_beside_an_image_follows_its_rows(rows, added):
    batch, _ = BATCHES["torchio"]
    layout = BatchLayout.of(batch)
    size = len(rows) + added
    made = layout.build(batch, [torch.zeros(size, 1, 4, 4, 1), torch.zeros(size)], np.array(rows, np.int64), added)
    image = made["image"]
    assert list(image) == list(batch["image"])
    assert image["affine"][:, 0, 0].tolist() == [*map(float, rows), *[0.0] * added]
    assert image["spacing"].flatten().tolist() == [*map(float, rows), *[0.0] * added]
    assert image["path"] == [*("abc"[row] for row in rows), *[""] * added]
    assert image["type"] == ["intensity"] * size
    assert image["note"] == "one for all"


def test_chosen_fields_of_a_dict():
    batch = {"image": IMAGE, "label": LABEL, "name": ["a", "b", "c"]}
    layout = BatchLayout.of(batch, ["label"])
    assert list(layout.restrict(batch)) == list(layout.build(batch, [LABEL])) == ["label"]
    assert BatchLayout.of(batch).restrict(batch) is batch
    specs = {"label": FieldSpec((), torch.int64, kind="scalar"), "more": FieldSpec((2,))}
    RowConversion(layout.names, specs).check(layout, batch)
    with pytest.raises(ConfigurationError, match="got \\['other'\\]"):
        BatchLayout.of(batch, ["other"])


def test_every_difference_is_named():
    batch = {"image": IMAGE, "label": LABEL, "name": ["a", "b", "c"], "age": LABEL}
    specs = {
        "image": FieldSpec((1, 4, 5), torch.float64),
        "label": FieldSpec((), torch.float32, kind="scalar"),
        "name": FieldSpec((2,)),
        "mask": FieldSpec((1, 4, 4)),
        "parent": FieldSpec((), torch.int64, kind="scalar"),
    }
    with pytest.raises(FieldMismatchError) as caught:
        RowConversion(tuple(batch), specs).check(BatchLayout.of(batch), batch)
    assert [line[4:] for line in str(caught.value).splitlines() if line.startswith("  - ")] == [
        "missing 'age': the real batches have it",
        "'image': real (1, 4, 4) torch.float32, synthetic (1, 4, 5) torch.float64",
        "'label': real () torch.int64, synthetic () torch.float32",
        "'name': real is of type list, which cannot be made from a tensor",
        "surplus 'mask': the synthetic samples have it, the real batches do not",
    ]


def test_fit_gives_the_shape_of_the_real_ones():
    layout = BatchLayout.of(BATCHES["torchio"][0])
    fit = RowConversion(layout.names, {})
    image, label = fit([IMAGE[..., None], LABEL], [IMAGE[:1], LABEL[:1].int()])
    assert image.shape == (1, 1, 4, 4, 1)
    assert label.dtype == torch.int64
    with pytest.raises(FieldMismatchError, match=r"'image': real \(1, 4, 4, 1\) torch.float32, synthetic \(1, 4, 3\)"):
        fit([IMAGE[..., None], LABEL], [IMAGE[:1, :, :, :3], LABEL[:1]])
