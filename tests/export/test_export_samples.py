"""Exported files, read back by other programs' libraries: orientation, spacing and intensities survive."""

import csv
import json
import math

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from PIL import Image

from torchgenaug import SyntheticPool, SyntheticSequence
from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, IntensityMismatchWarning, StateMismatchError
from torchgenaug.export import Geometry, export_samples, plan_export
from torchgenaug.export.run import EXPORT_NAME
from torchgenaug.file_locks import folder_held
from torchgenaug.recipes.data.load import load_data
from torchgenaug.sources.in_memory import InMemorySource
from torchgenaug.testing import AnalyticSynthesizer
from torchgenaug.types import FieldSpec

HU = (-1024.0, 3071.0)


class Source:
    """A source of given samples."""

    fingerprint = "f" * 64

    def __init__(self, fields, batch, trained_on=None):
        self.fields, self.batch, self.trained_on = fields, batch, trained_on

    def __len__(self):
        return len(next(iter(self.batch.values())))

    def read(self, positions):
        return {name: values[torch.as_tensor(positions)] for name, values in self.batch.items()}

    def ids(self, positions):
        return np.asarray(positions) + 5

    def seeds(self, positions):
        return np.asarray(positions, np.uint64) + np.uint64(7)

    def column(self, field):
        return self.batch[field]


def volumes(count=2, spatial=(6, 5, 4), parents=None):
    """CT volumes with a mask, a class, and perhaps a parent."""
    draw = torch.Generator().manual_seed(0)
    batch = {
        "image": torch.rand((count, 1, *spatial), generator=draw) * 4095 - 1024,
        "mask": torch.randint(0, 3, (count, 1, *spatial), generator=draw),
        "label": torch.arange(count) % 2,
    }
    fields = {
        "image": FieldSpec((1, *spatial), value_range=HU),
        "mask": FieldSpec((1, *spatial), torch.int64, kind="label_map", value_range=(0, 2)),
        "label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, 1)),
    }
    if parents is not None:
        batch["parent"], fields["parent"] = torch.tensor(parents), FieldSpec((), torch.int64, kind="scalar")
    return Source(fields, batch, {"samples": ["a"], "patients": ["JOHN^DOE"], "class_names": ["healthy", "ill"]})


def slices(count=3, spatial=(8, 16), channels=1):
    """Pictures with a mask and a class."""
    draw = torch.Generator().manual_seed(1)
    return Source(
        {
            "image": FieldSpec((channels, *spatial), value_range=(0.0, 1.0)),
            "mask": FieldSpec((1, *spatial), torch.int64, kind="label_map", value_range=(0, 3)),
            "label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, 1)),
        },
        {
            "image": torch.rand((count, channels, *spatial), generator=draw),
            "mask": torch.randint(0, 4, (count, 1, *spatial), generator=draw),
            "label": torch.arange(count) % 2,
        },
    )


def no_range():
    return Source({"image": FieldSpec((1, 8, 8))}, {"image": torch.zeros(1, 1, 8, 8)})


def oblique(spacing=(0.7, 0.8, 2.5), degrees=20.0):
    turn = math.radians(degrees)
    rotation = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * spacing, (-90, 30, 12)
    return affine


def world(image, index):
    """RAS+ mm of a voxel of a SimpleITK image, by its (x, y, z) index."""
    x, y, z = image.TransformIndexToPhysicalPoint([int(each) for each in index])
    return np.array([-x, -y, z])


def read_series(folder):
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def test_the_source_of_these_tests_is_one():
    assert isinstance(volumes(), SyntheticSource)


@pytest.mark.parametrize("spatial", [(6, 5, 4), (6, 5)])
def test_nifti_keeps_values_affine_and_spacing(tmp_path, spatial):
    source, affine = volumes(spatial=spatial), oblique()
    export_samples(source, tmp_path, "nifti", geometry=Geometry(affine=affine))
    path = tmp_path / "images" / "0000005.nii.gz"
    image, mask = nibabel.load(path), nibabel.load(tmp_path / "masks" / path.name)
    assert np.array_equal(np.asarray(image.dataobj).reshape(spatial), source.batch["image"][0, 0].numpy())
    assert np.array_equal(np.asarray(mask.dataobj).reshape(spatial), source.batch["mask"][0, 0].numpy())
    assert mask.get_data_dtype() == np.uint8
    for each in (image, mask):
        assert np.allclose(each.affine, affine, atol=1e-4)
        assert np.allclose(each.header.get_zooms(), (0.7, 0.8, 2.5), atol=1e-5)
        assert each.header.get_xyzt_units()[0] == "mm"
        assert int(each.header["sform_code"]) == int(each.header["qform_code"]) == 1
    itk = SimpleITK.ReadImage(str(path))
    index = (4, 3, 1 if len(spatial) == 3 else 0)
    assert np.allclose(world(itk, index), (affine @ [*index, 1])[:3], atol=1e-3)
    assert itk[index] == np.asarray(image.dataobj)[index]


def test_nifti_of_several_channels_has_a_fourth_axis(tmp_path):
    source = slices(channels=3)
    export_samples(source, tmp_path, "nifti")
    image = nibabel.load(tmp_path / "images" / "0000006.nii.gz")
    assert image.shape == (8, 16, 1, 3)
    assert np.array_equal(np.asarray(image.dataobj)[..., 0, 2], source.batch["image"][1, 2].numpy())


def test_each_image_lies_where_its_parent_lies(tmp_path):
    first, second = oblique(), oblique((1, 1, 5), -10)
    source = volumes(parents=[1, 0])
    export_samples(source, tmp_path, "nifti", geometry=Geometry(parents=[first, second]))
    found = [nibabel.load(tmp_path / "images" / f"000000{k}.nii.gz").affine for k in (5, 6)]
    assert np.allclose(found, [second, first], atol=1e-4)
    with pytest.raises(ConfigurationError, match="must have a parent below 2 to lie where its parent lies, got None"):
        plan_export(volumes(), "nifti", geometry=Geometry(parents=[first, second]))


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_dicom_keeps_hounsfield_units_and_places(tmp_path, modality):
    source, affine = volumes(), oblique()
    geometry = Geometry(affine=affine)
    export_samples(source, tmp_path, "dicom", geometry=geometry, modality=modality)
    itk = read_series(tmp_path / "images" / "0000005")
    values = SimpleITK.GetArrayFromImage(itk)  # (z, y, x) of DICOM
    assert np.allclose(sorted(itk.GetSpacing()), (0.7, 0.8, 2.5), atol=1e-5)
    image = source.batch["image"][0, 0].numpy()
    inverse = np.linalg.inv(affine)
    for index in [(0, 0, 0), (5, 0, 0), (0, 4, 0), (1, 2, 3)]:
        voxel = inverse @ [*world(itk, index), 1]
        i, j, k = np.round(voxel[:3]).astype(int)
        assert np.allclose(voxel[:3], (i, j, k), atol=1e-3)
        assert abs(float(values[index[2], index[1], index[0]]) - image[i, j, k]) <= 0.04
    mask = SimpleITK.GetArrayFromImage(read_series(tmp_path / "masks" / "0000005"))
    assert np.array_equal(np.bincount(mask.flatten()), np.bincount(source.batch["mask"][0].flatten().numpy()))


def test_dicom_is_marked_as_synthetic_and_names_nobody(tmp_path):
    source = volumes()
    export_samples(source, tmp_path / "a", "dicom", modality="CT")
    export_samples(source, tmp_path / "b", "dicom", modality="CT", geometry=Geometry(spacing_mm=(1, 1, 2)))
    files = sorted((tmp_path / "a").rglob("*.dcm"))
    assert len(files) == 2 * 2 * 4
    uids, studies = set(), set()
    for path in files:
        data = pydicom.dcmread(path)
        assert data[0x0008, 0x001C].value == "YES"
        assert not [each for each in data if each.keyword.startswith("Patient") and each.value and "Position" not in
                    each.keyword and each.keyword != "ImageOrientationPatient"]  # fmt: skip
        assert not data.ReferringPhysicianName
        assert not data.StudyDate
        assert b"DOE" not in path.read_bytes()
        uids.add(data.SOPInstanceUID)
        studies.add(data.StudyInstanceUID)
    assert len(uids) == len(files)
    assert len(studies) == 2  # one a sample
    others = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "b").rglob("*.dcm")}
    assert not uids & others  # other files, other UIDs
    assert "DOE" not in (tmp_path / "a" / "README.md").read_text()


def test_dicom_slices_are_shown_upright(tmp_path):
    """(x, y, z) in RAS+: the first row is the front, the first column the right of the patient."""
    source = volumes(1)
    export_samples(source, tmp_path, "dicom", modality="CT", geometry=Geometry(spacing_mm=(1, 1, 1)))
    data = pydicom.dcmread(tmp_path / "images" / "0000005" / "0001.dcm")
    assert [float(each) for each in data.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    shown = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
    assert np.allclose(shown, np.flip(source.batch["image"][0, 0, :, :, 0].numpy(), (0, 1)).T, atol=0.04)


@pytest.mark.parametrize(("bits", "channels"), [(8, 1), (16, 1), (8, 3)])
def test_png_folders_are_data_for_fit(tmp_path, bits, channels):
    source = slices(channels=channels)
    export_samples(source, tmp_path, "png", bits=bits)
    data = load_data(tmp_path)
    assert data.ids == tuple(f"images/000000{k}.png" for k in (5, 6, 7))
    step = 1 / ((1 << bits) - 1)
    for k in range(3):
        sample = data.samples[k]
        scale = data.fields["image"].value_range[1] if bits == 16 else 1.0
        stored = sample["image"] * (step if bits == 16 and scale > 1 else 1)
        assert (stored - source.batch["image"][k]).abs().max() <= step
        assert torch.equal(sample["mask"], source.batch["mask"][k])
    assert data.labels().tolist() == [0, 1, 0]


def test_imagefolder_has_the_table_that_datasets_reads(tmp_path):
    export_samples(slices(), tmp_path, "imagefolder")
    rows = list(csv.DictReader((tmp_path / "train" / "metadata.csv").read_text().splitlines()))
    assert [row["file_name"] for row in rows] == [f"images/000000{k}.png" for k in (5, 6, 7)]
    assert all((tmp_path / "train" / row[name]).exists() for row in rows for name in ("file_name", "mask_file_name"))
    assert rows[1]["seed"] == f"{8:016x}"
    assert (rows[1]["id"], rows[1]["label"]) == ("6", "1")


def test_parquet_states_its_features(tmp_path):
    import io

    from pyarrow import parquet

    source = slices()
    export_samples(source, tmp_path, "parquet")
    table = parquet.read_table(tmp_path / "data" / "train-00000-of-00001.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": ["0", "1"], "_type": "ClassLabel"}
    row = table.slice(2, 1).to_pylist()[0]
    pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
    assert np.abs(pixels / 255 - source.batch["image"][2, 0].numpy()).max() <= 0.5 / 255 + 1e-6
    assert (row["id"], row["label"], row["seed"]) == (7, 0, f"{9:016x}")


def test_parquet_holds_volumes_as_nifti(tmp_path):
    from pyarrow import parquet

    source = volumes()
    export_samples(source, tmp_path, "parquet", geometry=Geometry(affine=oblique()))
    row = parquet.read_table(tmp_path / "data").to_pylist()[1]
    path = tmp_path / "one.nii.gz"
    path.write_bytes(row["image"]["bytes"])
    assert np.array_equal(np.asarray(nibabel.load(path).dataobj), source.batch["image"][1, 0].numpy())
    assert np.allclose(nibabel.load(path).affine, oblique(), atol=1e-4)


@pytest.mark.parametrize("format_", ["nifti", "dicom", "png", "parquet", "imagefolder"])
def test_an_export_that_stopped_goes_on_to_the_same_files(tmp_path, format_):
    source = slices()
    seen = []
    export_samples(source, tmp_path / "whole", format_, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)
    plan = plan_export(source, format_)
    stopped = tmp_path / "stopped"
    whole = {path.relative_to(tmp_path / "whole"): path.read_bytes() for path in (tmp_path / "whole").rglob("*.*")
             if path.is_file()}  # fmt: skip
    # What a kill leaves: settings, some samples, and a half-written draft.
    (stopped / ".unfinished").mkdir(parents=True)
    (stopped / ".unfinished" / "0000006.png").write_bytes(b"half")
    (stopped / EXPORT_NAME).write_text(json.dumps(plan.settings))
    if format_ != "parquet":
        (stopped / plan.writer.targets(0, "0000005")["image"]).parent.mkdir(parents=True)
        target = plan.writer.targets(0, "0000005")["image"]
        if format_ == "dicom":
            (stopped / target).mkdir()
            for name in (path for path in whole if path.parent == target):
                (stopped / name).write_bytes(whole[name])
        else:
            (stopped / target).write_bytes(whole[target])
    export_samples(source, stopped, format_)
    again = {path.relative_to(stopped): path.read_bytes() for path in stopped.rglob("*.*") if path.is_file()}
    assert again.keys() == whole.keys()
    assert {name for name in whole if again[name] != whole[name]} <= {type(next(iter(whole)))(EXPORT_NAME)}


def test_another_export_or_other_files_are_left_alone(tmp_path):
    export_samples(slices(), tmp_path / "a", "png")
    with pytest.raises(StateMismatchError, match=r"geometry: .*Give another folder"):
        export_samples(slices(), tmp_path / "a", "png", geometry=Geometry(spacing_mm=(1, 2)))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="`out` must be a new or empty folder"):
        export_samples(slices(), tmp_path / "b", "png")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["mine.txt"]


def test_values_outside_of_the_range_are_counted(tmp_path):
    source = slices()
    outside = int((source.batch["image"] > 0.5).sum())
    with pytest.warns(IntensityMismatchWarning, match=f"^{outside} values lay outside"):
        export_samples(source, tmp_path, "png", value_range=(0.0, 0.5))


@pytest.mark.parametrize(
    ("source", "format_", "arguments", "message"),
    [
        (volumes(), "png", {}, "A PNG holds no volume. Use format 'nifti'"),
        (slices(channels=3), "dicom", {}, "DICOM images must have one channel"),
        (slices(channels=3), "png", {"bits": 16}, "or bits=8"),
        (no_range(), "png", {}, "must be given for field"),
        (Source({"label": FieldSpec((), kind="scalar")}, {"label": torch.zeros(1)}), "png", {}, "images of one size"),
        (slices(), "jpeg", {}, "`format` must be one of nifti, dicom"),
        (slices(), "png", {"bits": 12}, "`bits` must be 8 or 16"),
        (volumes(), "dicom", {"modality": "XX"}, "`modality` must be"),
        (volumes(), "nifti", {"geometry": Geometry(spacing_mm=(1, 1))}, "one number for each of the 3 axes"),
    ],
)  # fmt: skip
def test_what_a_format_cannot_hold_is_refused(source, format_, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        plan_export(source, format_, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"affine": np.eye(3)}, r"finite, invertible matrix \(4, 4\)"),
        ({"affine": np.zeros((4, 4))}, "finite, invertible"),
        ({"parents": [np.full((4, 4), np.nan)]}, "finite, invertible"),
        ({"spacing_mm": (1, 0)}, "must be positive numbers"),
        ({"spacing_mm": (1, 1), "affine": np.eye(4)}, "got affine and spacing_mm"),
        ({"first_axis": "y"}, "`first_axis` must be"),
    ],
)
def test_a_geometry_that_is_none_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Geometry(**arguments)


def test_a_picture_whose_first_axis_is_x_is_turned(tmp_path):
    source = slices()
    export_samples(source, tmp_path, "png", geometry=Geometry(first_axis="x"))
    pixels = np.asarray(Image.open(tmp_path / "images" / "0000005.png"))
    assert pixels.shape == (16, 8)  # rows are y, from the front
    assert np.allclose(pixels[0] / 255, source.batch["image"][0, 0, :, -1].numpy(), atol=0.003)


@pytest.mark.parametrize(
    ("name", "text"),
    [("images", "got 'image' and 'images', both in 'images'"), ("IMAGES", "both in 'IMAGES'"), ("../x", "got '../x'")],
)
def test_fields_that_would_replace_others_are_refused(tmp_path, name, text):
    source = slices()
    source.fields[name], source.batch[name] = source.fields["image"], source.batch["image"]
    with pytest.raises(ConfigurationError, match=text):
        export_samples(source, tmp_path / "out", "nifti")
    assert not list(tmp_path.rglob("*.nii.gz"))


@pytest.mark.parametrize("format_", ["png", "dicom"])
def test_what_is_not_finite_has_no_level(tmp_path, format_):
    source = slices()
    source.batch["image"][1, 0, 2, 2] = math.nan
    with pytest.raises(ConfigurationError, match="must be finite to become whole numbers"):
        export_samples(source, tmp_path, format_)


def test_classes_keep_their_names_for_datasets(tmp_path):
    source = slices()
    source.trained_on = {"class_names": ["healthy"]}  # of two classes: the other one is a number
    export_samples(source, tmp_path / "folder", "imagefolder")
    lines = csv.DictReader((tmp_path / "folder" / "train" / "metadata.csv").read_text().splitlines())
    assert [line["class"] for line in lines] == ["healthy", "1", "healthy"]
    export_samples(source, tmp_path / "parquet", "parquet")
    (path,) = (tmp_path / "parquet" / "data").iterdir()
    schema = pytest.importorskip("pyarrow.parquet").read_schema(path)
    assert json.loads(schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"] == ["healthy", "1"]


def test_a_bool_image_is_black_and_white(tmp_path):
    source = slices()
    source.batch["image"] = source.batch["image"] > 0.5
    source.fields["image"] = FieldSpec((1, 8, 16), torch.bool)
    export_samples(source, tmp_path, "png")
    picture = np.asarray(Image.open(tmp_path / "images" / "0000005.png"))
    assert np.array_equal(picture, source.batch["image"][0, 0].numpy() * 255)


def test_two_exports_into_one_folder_do_not_mix(tmp_path):
    with folder_held(tmp_path), pytest.raises(ConfigurationError, match="which is in use"):
        export_samples(slices(), tmp_path, "png")
    assert not list(tmp_path.iterdir())
    export_samples(slices(), tmp_path, "png")


@pytest.mark.parametrize("limits", [(0, 1, 2), (1, 0), (1, 1), (0, math.nan), (0, math.inf), ("a", "b"), 3])
@pytest.mark.parametrize("format_", ["png", "dicom"])
def test_a_range_that_is_none_is_refused(tmp_path, format_, limits):
    with pytest.raises(ConfigurationError, match="two finite numbers, low < high"):
        export_samples(slices(), tmp_path, format_, value_range=limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        {"spacing_mm": "11"},
        {"spacing_mm": 2.0},
        {"affine": "like.nii"},
        {"affine": np.diag([1, 1, 1, 2.0])},
        {"parents": [np.eye(3)]},
    ],
)
def test_spacings_and_affines_that_are_none_are_refused(arguments):
    with pytest.raises(ConfigurationError, match=r"`spacing_mm` must be|`affine` must be"):
        Geometry(**arguments)


def test_what_cannot_be_read_twice_alike_is_not_exported(tmp_path):
    sequence = SyntheticSequence(AnalyticSynthesizer((8, 8)))
    with pytest.raises(ConfigurationError, match="got SyntheticSequence"):
        export_samples(sequence, tmp_path, "png")
    with SyntheticPool(sequence, 4, background=False) as pool, pytest.raises(ConfigurationError, match="every epoch"):
        export_samples(pool, tmp_path, "png")
    with pytest.raises(EmptyDatasetError):
        export_samples(InMemorySource(sequence, 0), tmp_path, "png")
    with pytest.raises(ConfigurationError, match="must be a Geometry"):
        export_samples(slices(), tmp_path, "png", geometry="x")


def test_a_file_without_bytes_is_written_again(tmp_path):
    export_samples(slices(), tmp_path, "png")
    path = tmp_path / "images" / "0000006.png"
    whole = path.read_bytes()
    path.write_bytes(b"")
    export_samples(slices(), tmp_path, "png")
    assert path.read_bytes() == whole
