from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.recipes import load_data


def picture(path, value=0, size=(16, 16), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if mode == "RGB" else size
    pixels = (np.arange(np.prod(shape)).reshape(shape) + value) % 251
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_flat_folder(tmp_path):
    for k in range(3):
        picture(tmp_path / f"{k}.png", k)
    (tmp_path / "notes.txt").write_text("no image")
    data = load_data(str(tmp_path))
    assert len(data) == 3
    assert data.image_shape == (1, 16, 16)
    assert data.fields["image"].value_range == (0, 1)
    assert data.num_classes is None
    assert data.ids == ("0.png", "1.png", "2.png")
    assert data.samples[2]["image"].max() <= 1


def test_class_folders(tmp_path):
    for k in range(4):
        picture(tmp_path / ("sick" if k % 2 else "healthy") / f"{k}.jpg", k, mode="RGB")
    data = load_data(str(tmp_path))
    assert data.image_shape == (3, 16, 16)
    assert data.class_names == ("healthy", "sick")
    assert data.labels().tolist() == [0, 0, 1, 1]


def test_masks_and_sources_belong_to_their_images(tmp_path):
    for k in range(3):
        picture(tmp_path / "images" / f"case{k}.png", 10 * k)
        picture(tmp_path / "sources" / f"case{k}.tif", 10 * k + 5)
        mask = np.zeros((16, 16), np.uint8)
        mask[k : k + 4] = 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / f"case{k}.png")
    data = load_data(str(tmp_path))
    assert data.num_mask_classes == 2
    sample = data.samples[1]
    assert sample["mask"][0, 1:5].eq(1).all()
    assert sample["mask"].sum() == 4 * 16
    assert not torch.equal(sample["source"], sample["image"])
    (tmp_path / "masks" / "case1.png").unlink()
    with pytest.raises(ConfigurationError, match=r"Every image must have a mask of the same name.*1 of 3: case1\.png"):
        load_data(str(tmp_path))


def test_nifti_volumes_and_patients(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    for k in range(4):
        path = tmp_path / f"sub-{k // 2:02d}" / f"scan{k}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        values = np.random.default_rng(k).normal(size=(8, 16, 8)).astype(np.float32) * 100
        # Stored from right to left: comes out as RAS+.
        nibabel.save(nibabel.Nifti1Image(values[::-1], np.diag([-1, 1, 1, 1])), path)
        if k == 0:
            expected = values
    data = load_data(str(tmp_path))
    assert data.image_shape == (1, 8, 16, 8)
    assert data.patients == ("sub-00", "sub-00", "sub-01", "sub-01")
    assert data.num_classes is None
    low, high = data.fields["image"].value_range
    assert torch.allclose(data.samples[0]["image"][0], torch.from_numpy(expected).clamp(low, high))
    train, held_out = data.split(0.5)
    assert not set(train.patients) & set(held_out.patients)


def test_a_table_of_labels_and_patients(tmp_path):
    for k in range(4):
        picture(tmp_path / f"{k}.png", k)
    (tmp_path / "labels.csv").write_text("file,label,patient\n0.png,b,P1\n1.png,a,P1\n2.png,b,P2\n3.png,a,P2\n")
    data = load_data(str(tmp_path))
    assert data.labels().tolist() == [1, 0, 1, 0]
    assert data.patients == ("P1", "P1", "P2", "P2")
    (tmp_path / "labels.csv").write_text("file,label\n0.png,b\n1.png,a\n2.png,b\n")
    with pytest.raises(ConfigurationError, match=r"a row for every image, got none for 3\.png"):
        load_data(str(tmp_path))


def test_arrays(tmp_path):
    for k in range(2):
        np.save(tmp_path / f"{k}.npy", np.random.default_rng(k).normal(size=(2, 16, 16)))
    assert load_data(str(tmp_path)).image_shape == (2, 16, 16)


def test_sizes(tmp_path):
    picture(tmp_path / "a.png", size=(16, 16))
    picture(tmp_path / "b.png", size=(24, 20))
    with pytest.raises(ConfigurationError, match=r"size of the first one.*b\.png.*--size 24"):
        load_data(str(tmp_path))
    assert load_data(str(tmp_path), size=16).image_shape == (1, 16, 16)


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(EmptyDatasetError, match="must hold images"):
        load_data(str(tmp_path))
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", mode="RGB")
    with pytest.raises(ConfigurationError, match=r"grey, 2D.*got colour, 2D"):
        load_data(str(tmp_path))
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(ConfigurationError, match=r"b\.png must be a readable image"):
        load_data(str(tmp_path))
