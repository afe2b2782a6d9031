"""Small files that the layouts in these tests consist of. Images are noise, masks have areas of few values."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
SIDE = 16


def noise(name, shape=(SIDE, SIDE)):
    """Another picture for every name."""
    return np.random.default_rng(zlib.crc32(name.encode())).integers(60, 190, shape, dtype=np.uint8)


def area(name, value=255, shape=(SIDE, SIDE)):
    """A box of one value whose place depends on the name."""
    array = np.zeros(shape, np.uint8)
    start = 2 + zlib.crc32(name.encode()) % 4
    array[(slice(start, start + 8),) * len(shape)] = value
    return array


def put(root, name, array=None):
    """Writes an image, or a mask where an array is given, in the format of the name's ending."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lower = path.name.lower()
    if lower.endswith((".nii", ".nii.gz", ".mgz", ".img")):
        nibabel = pytest.importorskip("nibabel")
        volume = (noise(name, (SIDE,) * 3) if array is None else array).astype(np.int16)
        kind = {".mgz": nibabel.MGHImage, ".img": nibabel.Nifti1Pair}.get(lower[-4:], nibabel.Nifti1Image)
        nibabel.save(kind(volume, np.eye(4)), path)
    elif lower.endswith((".mha", ".mhd", ".nrrd")):
        sitk = pytest.importorskip("SimpleITK")
        volume = (noise(name, (SIDE,) * 3) if array is None else array).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(volume), str(path))
    elif lower.endswith((".tif", ".tiff")):
        pytest.importorskip("tifffile").imwrite(path, noise(name) if array is None else array)
    elif lower.endswith(".npy"):
        np.save(path, noise(name) if array is None else array)
    else:
        Image.fromarray(noise(name) if array is None else array).save(path)
    return path


def box(name, value=1):
    """A mask in 3D."""
    return area(name, value, (SIDE,) * 3)


def is_mask(sample):
    """Whether a training image is one of the masks above."""
    return len(np.unique(sample["image"].numpy())) <= 3
