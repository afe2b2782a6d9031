"""``torchgenaug export``: options, geometry of real files, dry run."""

import nibabel
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from torchgenaug import SyntheticSequence, render_shards
from torchgenaug.cli import app
from torchgenaug.cli.export_geometry import read_geometry
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data.resize import fit_affine, fit_image
from torchgenaug.testing import AnalyticSynthesizer


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("render") / "shards"
    render_shards(SyntheticSequence(AnalyticSynthesizer((8, 8))), folder, 12, progress=False)
    return folder


def test_dry_run_writes_nothing_there(shards, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["export", str(shards), "--format", "nifti", "--out", str(out), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "12 samples: about 24 files and" in result.output
    assert "Neither affine nor spacing is known" in result.output
    assert not out.exists()


def test_exports_with_a_spacing_and_goes_on(shards, tmp_path):
    command = ["export", str(shards), "--format", "nifti", "--out", str(tmp_path / "out"), "--spacing", "0.5,2"]
    for _ in range(2):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert f"12 samples as nifti in {tmp_path / 'out'}." in result.output
    zooms = nibabel.load(tmp_path / "out" / "images" / "0000003.nii.gz").header.get_zooms()
    assert np.allclose(zooms, (0.5, 2, 1))


def test_only_what_was_kept(shards, tmp_path):
    from torchgenaug import ShardSource
    from torchgenaug.trust import keep

    source = ShardSource(shards)
    kept = keep(source, lambda batch: batch["image"].flatten(1).mean(1), best=0.25)
    kept.save(shards)
    command = ["export", str(shards), "--format", "png", "--out", str(tmp_path / "out"), "--kept"]
    assert CliRunner().invoke(app, command).exit_code == 0
    names = sorted(path.stem for path in (tmp_path / "out" / "images").iterdir())
    assert names == sorted(f"{number:07d}" for number in kept.ids(np.arange(3)))


@pytest.mark.parametrize(("have", "size"), [((12, 10, 6), (16, 16, 16)), ((20, 9, 7), (10, 8, 8)), ((30, 20), (8, 16))])
def test_the_affine_of_a_fitted_image_points_at_the_same_places(have, size):
    """The coordinates of an image, fitted as an image is, agree with the affine wherever nothing was padded."""
    axes = torch.meshgrid(*[torch.arange(each).float() for each in have], indexing="ij")
    fitted = fit_image(torch.stack(axes), size)
    matrix = fit_affine(have, size)
    at = torch.tensor([each // 2 for each in size])
    found = fitted[(slice(None), *at.tolist())].numpy()
    wanted = (matrix @ [*at.tolist(), *[0] * (3 - len(have)), 1])[: len(have)]
    assert np.allclose(found, wanted, atol=0.06)


def test_images_lie_where_the_real_ones_lie_that_fit_reads(tmp_path):
    """A real volume, stored in LPS; what `fit` reads of it, written with ``--like`` and ``--parents``, lies there."""
    affine = np.diag([-2.0, -1.0, 3.0, 1.0])
    affine[:3, 3] = (40, 20, -9)
    folder = tmp_path / "real"
    (folder / "images").mkdir(parents=True)
    for number in range(2):
        values = np.zeros((20, 30, 10), np.float32)
        values[6 + number, 20, 5] = 100  # one bright voxel
        nibabel.save(nibabel.Nifti1Image(values, affine), folder / "images" / f"v{number}.nii.gz")
    data = load_data(folder, size=(20, 30, 10))
    like = read_geometry(
        (20, 30, 10), spacing=None, like=folder / "images" / "v0.nii.gz", parents=None, first_axis=None
    )
    parents = read_geometry((20, 30, 10), spacing=None, like=None, parents=str(folder), first_axis=None)
    for number in range(2):
        bright = np.unravel_index(int(data.samples[number]["image"][0].argmax()), (20, 30, 10))
        for found in (like.of((20, 30, 10), None), parents.of((20, 30, 10), number)):
            assert np.allclose((found @ [*bright, 1])[:3], (affine @ [6 + number, 20, 5, 1])[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": "1,1"}, "--spacing must be one number, or 3"),
        ({"like": "no.nii.gz"}, "from a file that can be read"),
        ({"like": "picture.png"}, "State the spacing instead"),
        ({"parents": "nowhere"}, "must be a folder of NIfTI files"),
        ({"parents": "nowhere", "like": "no.nii"}, "must not be given together"),
    ],
)
def test_options_that_state_no_place_are_refused(tmp_path, options, message):
    given = {"spacing": None, "like": None, "parents": None, "first_axis": None} | options
    if given["like"]:
        given["like"] = tmp_path / given["like"]
    with pytest.raises(ConfigurationError, match=message):
        read_geometry((8, 8, 8), **given)
