"""Synthetic samples come in whatever form the real ones have, where nothing is lost by it; each advice is executed."""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torchio as tio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from torchgenaug import ClassLabels, FieldSpec, SyntheticMixDataset, SyntheticSequence
from torchgenaug.errors import FieldMismatchError
from torchgenaug.mixing.dataset.fitting import ColumnFitting
from torchgenaug.samples.layout import SampleLayout
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

SIDE, CLASSES = 6, 3
SOURCE = InMemorySource(
    SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE), num_classes=CLASSES), ClassLabels(CLASSES)), 9
)
RAMP = torch.linspace(0, 1, SIDE * SIDE).reshape(1, SIDE, SIDE)
READ = SOURCE.read(np.arange(9))
NUMPY = {torch.float64: np.float64, torch.float16: np.float16, torch.uint8: np.uint8, torch.bool: np.bool_}


def mixed_with(value, name="mask", **options):
    """The synthetic samples of a mix whose real ones are (image, value)."""
    real = [(RAMP, value)] * 9
    mixed = SyntheticMixDataset(real, SOURCE, 1.0, fields=("image", name), **options)
    order = mixed.plan.look_up(np.arange(9), 0)[1]
    return [mixed[int(place)] for place in np.argsort(order)]


MASKS = {
    "as it is": (lambda mask: mask, torch.int64),
    "without channel": (lambda mask: mask[0], torch.int64),
    "one more axis": (lambda mask: mask[..., None], torch.int64),
    "uint8": (lambda mask: mask.to(torch.uint8), torch.uint8),
    "int16 without channel": (lambda mask: mask[0].to(torch.int16), torch.int16),
    "float32": (lambda mask: mask.float(), torch.float32),
    "float16": (lambda mask: mask.half(), torch.float16),
    "bool": (lambda mask: mask.bool(), torch.bool),
    "one-hot": (lambda mask: torch.nn.functional.one_hot(mask[0], 2).movedim(-1, 0), torch.int64),
    "one-hot float": (lambda mask: torch.nn.functional.one_hot(mask[0], 2).movedim(-1, 0).float(), torch.float32),
}


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_masks(name, array):
    form, dtype = MASKS[name]
    example = form(READ["mask"][0])
    for row, (_, mask) in enumerate(mixed_with(example.numpy() if array else example)):
        assert type(mask) is (np.ndarray if array else torch.Tensor)
        assert torch.equal(torch.as_tensor(mask), form(READ["mask"][row]))
        assert torch.as_tensor(mask).dtype == dtype


LABELS = {
    "int": lambda label: int(label),
    "float": lambda label: float(label),
    "numpy scalar": lambda label: np.uint8(label),
    "0-d": lambda label: label,
    "(1,)": lambda label: label[None],
    "medmnist": lambda label: np.array([int(label)], np.uint8),
    "float tensor": lambda label: label.float(),
    "(1,) float": lambda label: label.float()[None],
    "one-hot": lambda label: torch.eye(CLASSES)[label],
    "one-hot array": lambda label: np.eye(CLASSES, dtype=np.int64)[int(label)],
}


@pytest.mark.parametrize("name", LABELS)
def test_labels(name):
    form = LABELS[name]
    for row, (_, label) in enumerate(mixed_with(form(READ["label"][0]), "label")):
        expected = form(READ["label"][row])
        assert type(label) is type(expected)
        assert np.array_equal(np.asarray(label), np.asarray(expected))
        assert getattr(label, "dtype", None) == getattr(expected, "dtype", None)


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (torch.zeros(1, SIDE, SIDE, dtype=torch.float64), READ["image"].double()),
        (torch.zeros(1, SIDE, SIDE, dtype=torch.float16), READ["image"].half()),
        (torch.zeros(SIDE, SIDE), READ["image"][:, 0]),
        (torch.zeros(1, SIDE, SIDE, dtype=torch.uint8), (READ["image"] * 255).round().to(torch.uint8)),
        (np.zeros((SIDE, SIDE, 1), np.uint8), (READ["image"] * 255).round().to(torch.uint8).movedim(1, -1)),
        (np.zeros((1, SIDE, SIDE), ">f8"), READ["image"].double()),
    ],
)
def test_images(example, expected):
    real = [example] * 9
    mixed = SyntheticMixDataset(real, SOURCE, 1.0, fields=("image",))
    place = int(mixed.plan.look_up([4], 0)[1][0])
    assert type(mixed[4]) is type(example)
    assert mixed[4].dtype == example.dtype
    assert np.array_equal(np.asarray(mixed[4]), expected[place].numpy())


@pytest.mark.parametrize(
    ("limits", "dtype", "values", "expected"),
    [
        ((0, 1), torch.uint8, [0.0, 0.5, 1.0], [0, 128, 255]),
        ((-1, 1), torch.uint8, [-1.0, 0.0, 1.0], [0, 128, 255]),
        ((0, 255), torch.uint8, [0.0, 99.6, 255.0], [0, 100, 255]),
        ((-1000, 3000), torch.int16, [-1000.0, 12.4, 3000.0], [-1000, 12, 3000]),
    ],
)
def test_the_rule_for_images_of_integers(limits, dtype, values, expected):
    spec = FieldSpec((1, 1, 3), value_range=limits)
    fitting = ColumnFitting(SampleLayout.of({"image": torch.zeros(1, 1, 3, dtype=dtype)}), {"image": spec})
    (sample,) = fitting.samples({"image": torch.tensor(values).reshape(1, 1, 1, 3)}, 1)
    assert sample["image"].flatten().tolist() == expected


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("F", 1), ("P", 1), ("1", 1), ("I;16", 1)])
def test_pictures(mode, channels):
    kind = "intensity" if mode in ("L", "RGB", "F") else "label_map"
    spec = FieldSpec((channels, 4, 5), torch.float32 if kind == "intensity" else torch.int64, kind=kind)
    if mode != "F" and kind == "intensity":
        spec = FieldSpec(spec.shape, value_range=(0, 1))
    real = Image.new(mode, (9, 9))
    if mode == "P":
        real.putpalette([1, 2, 3] * 256)
    column = torch.ones(1, channels, 4, 5, dtype=spec.dtype)
    (sample,) = ColumnFitting(SampleLayout.of((real, 1), ("image", "label")), {"image": spec, "label": LABEL}).samples(
        {"image": column, "label": torch.tensor([2])}, 1
    )
    assert (sample[0].mode, sample[0].size, sample[1]) == (mode, (5, 4), 2)
    assert np.asarray(sample[0]).max() == (255 if mode in ("L", "RGB") else 1)
    if mode == "P":
        assert sample[0].getpalette()[:3] == [1, 2, 3]


LABEL = FieldSpec((), torch.int64, kind="scalar")


def test_what_synthetic_samples_lack_is_neutral_and_stated_once(caplog):
    real = [
        {
            "image": RAMP,
            "path": Path("/scan/1.png"),
            "name": "one",
            "nothing": None,
            "tags": ["a", "b"],
            "meta": OrderedDict(age=61, spacing=np.ones(3), note="x"),
        }
    ] * 9
    with caplog.at_level(logging.WARNING, "torchgenaug"):
        mixed = SyntheticMixDataset(real, SOURCE, 0.5, fields=list(real[0]))
        mixed.__getitems__(range(9))
        mixed.__getitems__(range(9))
    sample = mixed[int(np.flatnonzero(mixed.is_synthetic())[0])]
    assert {name: sample[name] for name in ("path", "name", "nothing", "tags")} == {
        "path": Path(),
        "name": "",
        "nothing": None,
        "tags": ["", ""],
    }
    assert type(sample["meta"]) is OrderedDict
    assert (sample["meta"]["age"], sample["meta"]["note"]) == (-1, "")
    assert len(caplog.records) == 1
    assert "'name', which they lack, is ''" in caplog.text


def test_numbers_and_images_are_not_invented_and_the_advised_ways_work():
    real = [{"image": RAMP, "label": 1, "age": 61.0, "extra": {"image": torch.ones(1, 9, 9)}}] * 9
    with pytest.raises(FieldMismatchError, match=r"(?s)missing 'age'.*missing 'extra'") as caught:
        SyntheticMixDataset(real, SOURCE, 0.5, fields=list(real[0]))
    assert "fields=('image', 'label')" in str(caught.value)
    SyntheticMixDataset(real, SOURCE, 0.5, fields=("image", "label")).__getitems__(range(9))
    filled = SyntheticMixDataset(
        real, SOURCE, 0.5, synthetic_transform=lambda s: {**s, "age": 50, "extra": real[0]["extra"]}
    )
    assert {tuple(filled[k]) for k in range(9)} == {("image", "label", "age", "extra")}
    assert all(type(filled[k]["age"]) is float for k in range(9))


def test_renamed_fields_and_the_advised_mapping():
    real = [{"pixel_values": RAMP, "labels": k % 3} for k in range(9)]
    with pytest.raises(FieldMismatchError, match=r"fields=\{'pixel_values': 'image', 'labels': 'label'\}"):
        SyntheticMixDataset(real, SOURCE, 0.5)
    names = {"pixel_values": "image", "labels": "label"}
    for options in (
        {"fields": names},
        {"synthetic_transform": lambda s: {"pixel_values": s["image"], "labels": s["label"]}},
        {"synthetic_transform": tio.RandomFlip(flip_probability=0), "fields": names},
    ):
        mixed = SyntheticMixDataset(real, SOURCE, 1.0, **options)
        places = mixed.plan.look_up(range(9), 0)[1]
        for index, place in enumerate(places):
            assert torch.equal(mixed[index]["pixel_values"], READ["image"][place])
            assert mixed[index]["labels"] == READ["label"][place]
        assert next(iter(DataLoader(mixed, 9)))["labels"].shape == (9,)
    matched = SyntheticMixDataset(real, SOURCE, 0.5, fields=names, match="labels")
    assert [matched[k]["labels"] for k in range(9)] == [k % 3 for k in range(9)]


@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.uint8, "label_map"), (torch.bool, "label_map"), (torch.float16, "scalar")]
)
def test_a_value_that_would_change_is_an_error(dtype, name):
    shape = (1, 2) if name == "label_map" else ()
    spec = FieldSpec(shape, torch.int64, kind=name)
    fitting = ColumnFitting(SampleLayout.of({"x": torch.zeros(shape, dtype=dtype)}), {"x": spec})
    assert fitting.samples({"x": torch.ones(3, *shape, dtype=torch.int64)}, 3)[0]["x"].dtype == dtype
    with pytest.raises(FieldMismatchError, match=r"Field 'x' must hold values that \w+.*got 4097"):
        fitting.samples({"x": torch.full((3, *shape), 4097)}, 3)


def test_classes_beyond_a_one_hot_vector_are_an_error():
    with pytest.raises(FieldMismatchError, match=r"must hold classes 0 to 1.*got \d to 2"):
        mixed_with(torch.eye(2)[0], "label")


@pytest.mark.parametrize("kind", ["dict", "reordered", "tuple of arrays", "float mask"])
def test_map_style_sets_may_look_otherwise(kind):
    """A dict where the real samples are tuples, arrays where they are tensors, …"""
    real = [(RAMP, torch.zeros(SIDE, SIDE, dtype=torch.long))] * 8
    image, mask = RAMP.double().numpy() / 2, np.ones((1, SIDE, SIDE), np.uint8)
    synthetic = {
        "dict": {"image": image, "mask": mask},
        "reordered": {"mask": torch.from_numpy(mask), "other": 1, "image": torch.from_numpy(image)},
        "tuple of arrays": (image, mask),
        "float mask": {"image": image.astype(np.float32), "mask": torch.ones(1, SIDE, SIDE)},
    }[kind]
    chosen = SyntheticMixDataset(real, [synthetic] * 3, 1.0, fields=("image", "mask"), synthetic_transform=lambda s: s)
    mixes = (
        [chosen]
        if kind == "reordered"
        else [chosen, SyntheticMixDataset(real, [synthetic] * 3, 1.0, fields=("image", "mask"))]
    )
    for mixed in mixes:
        made = mixed[0]
        assert type(made) is tuple
        assert (made[0].dtype, tuple(made[0].shape), float(made[0].max())) == (torch.float32, (1, SIDE, SIDE), 0.5)
        assert (made[1].dtype, tuple(made[1].shape), int(made[1].sum())) == (torch.int64, (SIDE, SIDE), SIDE * SIDE)


leaves = {
    "image": st.sampled_from([torch.float32, torch.float64, torch.float16, torch.uint8]),
    "mask": st.sampled_from([torch.int64, torch.uint8, torch.float32, torch.bool, torch.int32]),
}


@settings(max_examples=40)
@given(st.data())
def test_random_structures_collate_and_keep_their_type(data):
    """A real sample of any structure: real and synthetic ones go into one batch."""
    parts = {}
    for name in data.draw(st.permutations(["image", "mask", "label", "path"])):
        if name in leaves:
            dtype = data.draw(leaves[name])
            value = (RAMP * (255 if dtype == torch.uint8 else 1) if name == "image" else torch.ones(1, SIDE, SIDE)).to(
                dtype
            )
            value = data.draw(st.sampled_from([value, value[0], value.numpy()]))
        elif name == "label":
            value = data.draw(
                st.sampled_from([1, 1.0, np.int64(1), torch.tensor(1), torch.eye(CLASSES)[1], np.array([1])])
            )
        else:
            value = data.draw(st.sampled_from(["/a", ["/a"], {"id": "/a", "n": 3}]))
        parts[name] = value
    container = data.draw(st.sampled_from([dict, OrderedDict, tuple, list]))
    sample = container(parts.values()) if container in (tuple, list) else container(parts)
    mixed = SyntheticMixDataset([sample] * 6, SOURCE, 0.5, fields=list(parts))
    for index in range(6):
        assert type(mixed[index]) is container
        one = dict(zip(parts, mixed[index], strict=True)) if container in (tuple, list) else mixed[index]
        for name, value in parts.items():
            assert type(one[name]) is type(value)
            assert getattr(one[name], "dtype", None) == getattr(value, "dtype", None)
            assert np.shape(one[name]) == np.shape(value)
    assert len(list(DataLoader(mixed, batch_size=6))) == 1
