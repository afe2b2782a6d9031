"""nnU-Net's folder: names, files and splits as nnU-Net v2 documents them."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.synthesizers.function import FunctionSynthesizer
from torchgenaug.testing import InMemorySource
from torchgenaug.trainers.nnunet import write_nnunet
from torchgenaug.types import FieldSpec

FIELDS = {
    "image": FieldSpec((2, 6, 5, 4), value_range=(0, 1)),
    "mask": FieldSpec((1, 6, 5, 4), torch.int64, kind="label_map"),
}
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def pairs(seeds, conditions):
    draws = torch.stack([torch.rand(2, 6, 5, 4, generator=torch.Generator().manual_seed(s >> 1)) for s in seeds])
    return {"image": draws, "mask": (draws[:, :1] > 0.5).long()}


SOURCE = InMemorySource(SyntheticSequence(FunctionSynthesizer(pairs, FIELDS, fingerprint="pairs")), 4)


def real_cases(count=7):
    samples = pairs(range(100, 100 + count), None)
    for number in range(count):
        yield {
            "image": samples["image"][number],
            "mask": samples["mask"][number, 0],
            "case": f"P{number}",
            "affine": AFFINE,
        }


def write(folder, real=None, count=3, **options):
    options = {"labels": {"background": 0, "lesion": 1}, "channels": ("T1", "T2"), "folds": 3} | options
    return write_nnunet(folder, real_cases() if real is None else real, SOURCE, count, **options)


def test_files_and_description(tmp_path):
    write(tmp_path)
    cases = [f"P{number}" for number in range(7)] + [f"synthetic_{number:05d}" for number in range(3)]
    images = {path.name for path in (tmp_path / "imagesTr").iterdir()}
    assert images == {f"{case}_{channel:04d}.nii.gz" for case in cases for channel in range(2)}
    assert {path.name for path in (tmp_path / "labelsTr").iterdir()} == {f"{case}.nii.gz" for case in cases}
    assert json.loads((tmp_path / "dataset.json").read_text()) == {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 10,
        "file_ending": ".nii.gz",
    }
    image, mask = (nib.load(tmp_path / name) for name in ("imagesTr/P2_0001.nii.gz", "labelsTr/P2.nii.gz"))
    expected = list(real_cases())[2]
    assert np.array_equal(image.get_fdata(dtype=np.float32), expected["image"][1].numpy())
    assert np.array_equal(mask.get_fdata(), expected["mask"].numpy())
    assert mask.get_data_dtype() == np.uint8
    assert np.array_equal(image.affine, AFFINE)
    synthetic = nib.load(tmp_path / "imagesTr" / "synthetic_00001_0000.nii.gz").get_fdata(dtype=np.float32)
    assert np.array_equal(synthetic, SOURCE.read(np.array([1]))["image"][0, 0].numpy())


def test_synthetic_cases_are_in_training_folds_only(tmp_path):
    splits = write(tmp_path)
    assert json.loads((tmp_path / "splits_final.json").read_text()) == splits
    synthetic = {f"synthetic_{number:05d}" for number in range(3)}
    for fold in splits:
        assert synthetic <= set(fold["train"])
        assert not synthetic & set(fold["val"])
        assert sorted(fold["train"] + fold["val"]) == sorted([f"P{n}" for n in range(7)] + list(synthetic))
    assert sorted(case for fold in splits for case in fold["val"]) == [f"P{number}" for number in range(7)]
    assert write(tmp_path / "again", seed=0) == splits
    assert write(tmp_path / "other", seed=1) != splits


def test_images_of_one_slice(tmp_path):
    real = [{"image": case["image"][:, :, :, 0], "mask": case["mask"][None, :, :, 0]} for case in real_cases(3)]
    write(tmp_path, real, 0)
    assert nib.load(tmp_path / "imagesTr" / "real_00000_0000.nii.gz").shape == (6, 5, 1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"folds": 8}, ConfigurationError, r"`folds` must be in \[2, 7\]"),
        ({"count": 5}, ConfigurationError, r"`count` must be in \[0, 4\].*Render more"),
        ({"channels": ("T1",)}, FieldMismatchError, "`channels` must name each of the 2 channels of case 'P0'"),
        ({"real": [{"image": torch.rand(2, 6, 5, 4)}]}, FieldMismatchError, "Samples must have 'image' and 'mask'"),
        ({"real": [*real_cases(2), *real_cases(2)]}, ConfigurationError, "got one twice"),
    ],
)
def test_refuses(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        write(tmp_path, **options)


def with_mask(mask):
    """Three real cases, the last with this mask."""
    cases = list(real_cases(3))
    return [*cases[:2], cases[2] | {"mask": mask}]


def test_a_value_without_a_label_is_refused_and_its_remedy_names_it(tmp_path):
    real = with_mask(torch.full((6, 5, 4), 3))
    with pytest.raises(ConfigurationError, match=r"without \[3\] of case 'P2'.*Name them: labels=") as caught:
        write(tmp_path, real)
    remedy = str(caught.value).split("labels=")[-1].rstrip(".")
    assert eval(remedy) == {"background": 0, "lesion": 1, "class_2": 2, "class_3": 3}
    with pytest.warns(UserWarning, match=r"No mask holds the labels \['class_2'\]"):
        write(tmp_path, real, labels=eval(remedy))
    mask = nib.load(tmp_path / "labelsTr" / "P2.nii.gz").get_fdata()
    assert (mask == 3).all()


def test_a_value_of_a_synthetic_mask_without_a_label_is_refused(tmp_path):
    real = with_mask(torch.zeros(6, 5, 4))
    real = [case | {"mask": torch.zeros(6, 5, 4)} for case in real]
    with pytest.raises(ConfigurationError, match=r"without \[1\] of case 'synthetic_00000'"):
        write(tmp_path, real, labels={"background": 0})


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.full((6, 5, 4), 255), ConfigurationError, r"without \[255\].*Renumber the masks"),
        (torch.full((6, 5, 4), -1), ConfigurationError, r"without \[-1\].*Renumber the masks"),
        (torch.full((6, 5, 4), 256), ConfigurationError, r"without \[256\].*Renumber the masks"),
        (torch.full((6, 5, 4), 0.5), FieldMismatchError, r"whole numbers, got 0\.5 in case 'P2'"),
        (torch.full((6, 5, 4), torch.nan), FieldMismatchError, r"whole numbers, got nan"),
        (torch.zeros(2, 6, 5, 4), FieldMismatchError, r"shape of their images.*\(2, 6, 5, 4\).*argmax"),
        (torch.zeros(4, 5, 6), FieldMismatchError, r"shape of their images.*\(4, 5, 6\)"),
    ],
)
def test_masks_that_would_be_written_as_something_else_are_refused(tmp_path, mask, error, message):
    with pytest.raises(error, match=message):
        write(tmp_path, with_mask(mask))


@pytest.mark.parametrize("labels", [{"lesion": 1}, {"background": 0, "lesion": 2}, {"background": 1, "lesion": 0}])
def test_labels_that_nnunet_would_refuse(tmp_path, labels):
    with pytest.raises(ConfigurationError, match="`labels` must be numbers from 0 on"):
        write(tmp_path, labels=labels)


def test_whole_numbers_of_any_type_are_masks(tmp_path):
    write(tmp_path, with_mask(torch.ones(1, 6, 5, 4, dtype=torch.bool)))
    write(tmp_path, with_mask(torch.ones(6, 5, 4, dtype=torch.float64)))
    assert nib.load(tmp_path / "labelsTr" / "P2.nii.gz").get_fdata().min() == 1


def test_a_source_without_masks_is_refused(tmp_path):
    fields = {"image": FieldSpec((2, 6, 5, 4), value_range=(0, 1))}
    images = FunctionSynthesizer(lambda seeds, _: {"image": pairs(seeds, _)["image"]}, fields, fingerprint="images")
    with pytest.raises(FieldMismatchError, match=r"fields 'image' and 'mask', got \['image'\]"):
        write_nnunet(tmp_path, real_cases(), InMemorySource(SyntheticSequence(images), 4), 2, labels={"background": 0})
