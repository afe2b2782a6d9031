"""Array files that hold many samples."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data import scan
from torchgenaug.recipes.data.load import load_data

DRAW = np.random.default_rng(0)
GREY = DRAW.integers(0, 255, (12, 16, 16), dtype=np.uint8)
COLOUR = DRAW.integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)
VOLUME = DRAW.integers(0, 255, (12, 16, 16, 16), dtype=np.uint8)
CLASSES = np.arange(12)[:, None] % 3
MASKS = (GREY > 128).astype(np.uint8)


def medmnist(images=GREY, labels=CLASSES, name="label"):
    parts = {}
    for part, count in (("train", 12), ("val", 4), ("test", 6)):
        parts[f"{part}_images"], parts[f"{part}_{name}"] = images[:count], labels[:count]
    return parts


@pytest.mark.parametrize(
    ("content", "shape", "fields"),
    [
        (medmnist(name="labels"), (1, 16, 16), {"image", "label"}),
        (medmnist(COLOUR, name="labels"), (3, 16, 16), {"image", "label"}),
        (medmnist(VOLUME, name="labels"), (1, 16, 16, 16), {"image", "label"}),
        (medmnist(labels=MASKS), (1, 16, 16), {"image", "mask"}),
        (medmnist(COLOUR, MASKS[..., None]), (3, 16, 16), {"image", "mask"}),
        (medmnist(COLOUR, MASKS), (3, 16, 16), {"image", "mask"}),
        (medmnist(VOLUME, (VOLUME > 99).astype(np.uint8)), (1, 16, 16, 16), {"image", "mask"}),
        (medmnist(labels=np.eye(3)[CLASSES[:, 0]], name="labels"), (1, 16, 16), {"image", "label"}),
        (medmnist(labels=DRAW.integers(0, 2, (12, 14)), name="labels"), (1, 16, 16), {"image"}),
        ({"x_train": GREY, "y_train": CLASSES[:, 0], "x_test": GREY}, (1, 16, 16), {"image", "label"}),
        ({"images": GREY, "masks": MASKS}, (1, 16, 16), {"image", "mask"}),
        ({"images": GREY, "labels": np.array(["cat", "dog"] * 6)}, (1, 16, 16), {"image", "label"}),
        ({"X": GREY[:, None].astype(np.float32), "Y": CLASSES.astype(np.float64)}, (1, 16, 16), {"image", "label"}),
    ],
)
@pytest.mark.parametrize("as_npy", [False, True])
def test_stacks(tmp_path, content, shape, fields, as_npy):
    if as_npy:
        for name, array in content.items():
            np.save(tmp_path / f"{name}.npy", array)
    else:
        np.savez(tmp_path / "set.npz", **content)
    data = load_data(tmp_path)
    assert len(data) == 12
    assert data.image_shape == shape
    assert set(data.fields) == fields
    first = torch.from_numpy(np.array(next(iter(content.values()))[5])).float()
    image = data.samples[5]["image"] * (255 if data.fields["image"].value_range == (0, 1) else 1)
    flat = image.movedim(0, -1) if shape[0] == 3 else image
    assert torch.allclose(flat.reshape(-1), first.reshape(-1), atol=1e-3)
    remarks = " ".join(data.remarks)
    if "test_images" in content or "x_test" in content:
        assert "not used" in remarks
        assert "test" in remarks
    if fields == {"image"}:
        assert "several labels of one image" in remarks


def test_a_file_in_place_of_its_folder(tmp_path):
    np.savez(tmp_path / "pneumoniamnist.npz", **medmnist(name="labels"))
    np.savez(tmp_path / "chestmnist.npz", **medmnist(name="labels"))
    with pytest.raises(
        ConfigurationError, match=r"one data set, got 2 of them .*Give one of the files: .*chestmnist\.npz"
    ):
        load_data(tmp_path)
    assert len(load_data(tmp_path / "chestmnist.npz")) == 12
    np.save(tmp_path / "one.npy", GREY[0])
    with pytest.raises(ConfigurationError, match="array file of many images"):
        load_data(tmp_path / "one.npy")


@pytest.mark.parametrize(
    "keys", [("image", "label"), ("image", "mask"), ("x", "y"), ("arr_0", "arr_1"), ("data", "seg")]
)
def test_a_file_per_sample(tmp_path, keys):
    """As TransUNet's Synapse has it: case0001_slice000.npz with image and label."""
    for k in range(4):
        content = dict(zip(keys, (GREY[k] / np.float32(255), MASKS[k]), strict=True))
        np.savez(tmp_path / f"case0001_slice{k:03}.npz", **content)
    data = load_data(tmp_path)
    assert len(data) == 4
    assert data.image_shape == (1, 16, 16)
    assert "mask" in data.fields
    assert np.array_equal(data.samples[2]["mask"][0].numpy(), MASKS[2])


def test_volumes_are_no_stacks(tmp_path):
    for k in range(2):
        np.save(tmp_path / f"volume_{k}.npy", VOLUME[k])
    assert load_data(tmp_path).image_shape == (1, 16, 16, 16)


def test_rows_are_read_when_needed(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", **medmnist(name="labels"))
    kept = load_data(tmp_path)
    monkeypatch.setattr(scan, "MAX_BYTES_IN_MEMORY", 100)
    lazy = load_data(tmp_path)
    again = pickle.loads(pickle.dumps(lazy.samples))
    assert torch.equal(again[3]["image"], kept.samples[3]["image"])


def test_unequal_numbers_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=GREY, labels=CLASSES[:5])
    with pytest.raises(ConfigurationError, match="one entry for each of the 12 images"):
        load_data(tmp_path)


@pytest.mark.parametrize("ending", ["npy", "npz", "h5"])
def test_few_slices_are_channels_or_a_volume_by_choice(tmp_path, ending):
    """Four planes: a short axis is channels, which is stated with the option that says otherwise."""
    for k in range(3):
        image, mask = VOLUME[k][:4].astype(np.float32) + k, (MASKS[:4] > 0).astype(np.uint8)
        if ending == "npy":
            np.save(tmp_path / f"case{k}.npy", image)
        elif ending == "npz":
            np.savez(tmp_path / f"case{k}.npz", image=image, mask=mask)
        else:
            with pytest.importorskip("h5py").File(tmp_path / f"case{k}.h5", "w") as file:
                file["image"], file["mask"] = image, mask
    if ending == "npy":
        data = load_data(tmp_path)
        assert data.image_shape == (4, 16, 16)
        assert any("an axis of 4 was read as channels" in text for text in map(str.lower, data.remarks))
    for options in ({"volumes": True}, {"size": (8, 16, 16)}):
        data = load_data(tmp_path, **options)
        assert data.image_shape == (1, 8, 16, 16)
        assert data.fields.get("mask", data.fields["image"]).shape == (1, 8, 16, 16)
        assert not any("as channels" in text for text in data.remarks)


def test_options_are_heeded_for_arrays_of_many_samples(tmp_path):
    np.savez(tmp_path / "busi.npz", train_images=GREY, train_masks=MASKS)
    np.savez(tmp_path / "more.npz", train_images=GREY[:5], train_masks=MASKS[:5])
    with pytest.raises(ConfigurationError, match="one data set, got 2"):
        load_data(tmp_path)
    data = load_data(tmp_path, images="more.npz", masks="none")
    assert (len(data), sorted(data.fields)) == (5, ["image"])
    assert any("not chosen: 1" in text for text in data.remarks)
    assert "mask" not in load_data(tmp_path / "busi.npz", masks="none").fields
    with pytest.raises(ConfigurationError, match=r"must be left out for arrays .*folders='classes'"):
        load_data(tmp_path / "busi.npz", folders="classes")
