"""HDF5 and MATLAB files: a sample each, or many, as data sets keep them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.recipes.data.load import load_data

io = pytest.importorskip("scipy.io")
DRAW = np.random.default_rng(0)
NUM = 6


def noise(*shape):
    return DRAW.integers(0, 255, shape, dtype=np.uint8)


def h5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def new_matlab(path, arrays):
    """Version 7.3: HDF5 behind 512 bytes, axes in reverse order, scalars as 1 x 1."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = np.atleast_2d(array).T


def old_matlab(path, arrays):
    structs: dict[str, object] = {}
    for name, array in arrays.items():
        group, _, member = name.rpartition("/")
        if group:
            structs.setdefault(group, {})[member] = array
        else:
            structs[name] = array
    io.savemat(path, structs)


WRITERS = [(h5, ".h5"), (h5, ".HDF5"), (new_matlab, ".mat"), (old_matlab, ".mat")]


@pytest.mark.parametrize(("write", "ending"), WRITERS)
@pytest.mark.parametrize(
    ("image", "mask", "group"),
    [("image", "mask", ""), ("img", "label", ""), ("image", "tumorMask", "cjdata/"), ("X", "gt", "")],
)
def test_a_file_is_a_sample_with_its_mask(tmp_path, write, ending, image, mask, group):
    arrays = [(noise(16, 24), (noise(16, 24) > 128).astype(np.uint8)) for _ in range(3)]
    for k, (values, drawn) in enumerate(arrays):
        write(tmp_path / f"{k}{ending}", {group + image: values, group + mask: drawn, group + "notes": np.ones(2)})
    data = load_data(tmp_path)
    for k, (values, drawn) in enumerate(arrays):
        assert np.array_equal((data.samples[k]["image"][0] * 255).round(), values)
        assert np.array_equal(data.samples[k]["mask"][0], drawn)
    assert "Not used: the arrays" in " ".join(data.remarks)


@pytest.mark.parametrize(("write", "ending"), WRITERS)
def test_numbers_of_classes_that_do_not_begin_at_zero_are_names(tmp_path, write, ending):
    for k in range(NUM):
        write(tmp_path / f"{k}{ending}", {"image": noise(16, 16), "label": np.int64(k % 3 + 1)})
    data = load_data(tmp_path)
    assert data.class_names == ("1", "2", "3")
    assert data.labels().tolist() == [0, 1, 2] * 2


@pytest.mark.parametrize("write", [h5, new_matlab, old_matlab])
def test_many_samples_in_a_file(tmp_path, write):
    images, labels = noise(NUM, 16, 24, 3), np.arange(NUM) % 2
    if write is h5:
        h5(tmp_path / "data.h5", {"images": images, "labels": labels})
    else:  # MATLAB counts samples along the last axis
        write(tmp_path / "data.mat", {"X": np.moveaxis(images, 0, -1), "y": labels[None]})
    data = load_data(tmp_path)
    assert data.labels().tolist() == labels.tolist()
    for k in range(NUM):
        assert np.array_equal((data.samples[k]["image"] * 255).round(), images[k].transpose(2, 0, 1))
    path = next(tmp_path.iterdir())
    assert len(load_data(path)) == NUM


def test_parts_of_a_split_are_files_and_labels_may_be_texts(tmp_path):
    for part, count in (("train", NUM), ("valid", 2), ("test", 2)):
        h5(tmp_path / f"camelyonpatch_level_2_split_{part}_x.h5", {"x": noise(count, 16, 16, 3)})
        h5(tmp_path / f"camelyonpatch_level_2_split_{part}_y.h5", {"y": np.array([b"no", b"yes"] * (count // 2))})
    data = load_data(tmp_path)
    assert (len(data), data.class_names) == (NUM, ("no", "yes"))


def test_what_cannot_be_read_is_named(tmp_path):
    h5(tmp_path / "a.h5", {"kspace": noise(4, 4), "esc": noise(4, 4)})
    with pytest.raises(ConfigurationError, match=r"a\.h5.*kspace"):
        load_data(tmp_path)
    (tmp_path / "a.h5").rename(tmp_path / f"shard-00000.{'a' * 64}.h5")
    with pytest.raises(EmptyDatasetError, match="shards of synthetic samples"):
        load_data(tmp_path)


def test_a_file_of_text_is_no_matlab_file(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"x" * 600)
    with pytest.raises(ConfigurationError, match=r"a\.mat"):
        load_data(tmp_path)
