"""Spacing: resampled on request, thick slices, one size per axis."""

from __future__ import annotations

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel")

from torchgenaug.errors import ConfigurationError  # noqa: E402
from torchgenaug.recipes.data.load import load_data  # noqa: E402
from torchgenaug.recipes.data.resize import thick_axes  # noqa: E402


def save(path, shape, spacing):
    """A ball of 8 mm in the middle."""
    axes = np.meshgrid(*(np.arange(n) * step for n, step in zip(shape, spacing, strict=True)), indexing="ij")
    centre = [(n - 1) * step / 2 for n, step in zip(shape, spacing, strict=True)]
    distance = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(axes, centre, strict=True)))
    ball = (distance < 8).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 1, shape)
    nibabel.save(nibabel.Nifti1Image((1000.0 * ball + noise).astype(np.float32), np.diag([*spacing, 1])), path)
    nibabel.save(nibabel.Nifti1Image(ball, np.diag([*spacing, 1])), path.with_name(path.name.replace(".", "_seg.", 1)))


def test_volumes_are_brought_to_one_spacing(tmp_path):
    save(tmp_path / "a.nii", (48, 48, 12), (0.5, 0.5, 2))
    save(tmp_path / "b.nii", (24, 24, 24), (1, 1, 1))
    with pytest.raises(ConfigurationError, match="size of the first one"):
        load_data(tmp_path)
    data = load_data(tmp_path, spacing=1)
    assert data.image_shape == (1, 24, 24, 24)
    for k in range(2):
        sample = data.samples[k]
        volume = float((sample["mask"] == 1).sum())
        assert volume == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.1)
        inside = sample["image"][sample["mask"] == 1].mean()
        assert inside > 850
    assert load_data(tmp_path, spacing=(2, 2, 2), size=(16, 16, 8)).image_shape == (1, 16, 16, 8)


def test_spacings_that_differ_are_stated(tmp_path):
    save(tmp_path / "a.nii", (24, 24, 24), (1, 1, 1))
    save(tmp_path / "b.nii", (24, 24, 24), (1, 1, 2))
    (remark,) = [each for each in load_data(tmp_path).remarks if "Spacings differ" in each]
    assert "--spacing 1,1,1" in remark
    load_data(tmp_path, spacing=(1, 1, 1), size=24)


@pytest.mark.parametrize(
    ("shape", "spacing", "size"),
    [
        ((128, 128, 12), (0.5, 0.5, 5), 32),
        ((12, 96, 96), (5, 1, 1), 24),
        ((96, 96, 10), (1, 1, 7), None),
        ((64, 64, 3), (1, 1, 10), 16),
    ],
)
def test_thick_slices_fill_the_volume(tmp_path, shape, spacing, size):
    save(tmp_path / "a.nii", shape, spacing)
    data = load_data(tmp_path, size=size)
    thick = int(np.argmax(spacing))
    planes = data.samples[0]["image"][0].movedim(thick, 0)
    assert all(plane.std() > 1e-3 for plane in planes)
    assert data.samples[0]["mask"].sum() > 0
    assert "thick slices" in " ".join(data.remarks)


def test_stacks_without_a_spacing(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((10, 64, 64)))
    planes = load_data(tmp_path, size=32).samples[0]["image"][0]
    assert planes.shape == (32, 32, 32)
    assert all(plane.std() > 1e-3 for plane in planes)


def test_which_axes_are_thick():
    assert thick_axes((64, 64), None) == ()
    assert thick_axes((128, 128, 12), (0.5, 0.5, 5)) == (2,)
    assert thick_axes((128, 128, 12), (1, 1, 1)) == ()
    assert thick_axes((12, 128, 128), None) == (0,)
    assert thick_axes((32, 40, 32), None) == ()


def test_unknown_spacing_and_wrong_numbers(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((16, 16)))
    with pytest.raises(ConfigurationError, match=r"do not state theirs, got \(1\.0, 1\.0\) for a\.npy"):
        load_data(tmp_path, spacing=1)
    for wrong in (0, (1, 1, 1), (-1, 1), float("nan")):
        with pytest.raises(ConfigurationError, match="positive number"):
            load_data(tmp_path, spacing=wrong)
    with pytest.raises(ConfigurationError, match="must be left out but for a folder"):
        load_data("digits", spacing=1)
