"""MONAI's samples: MetaTensors with their affine and metadata, lists of crops; in MONAI's own loader."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug import SyntheticMixDataset, SyntheticSequence
from torchgenaug.samples.container_type import anonymous_meta
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

pytest.importorskip("monai")

from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import (
    Compose,
    Invertd,
    RandCropByPosNegLabeld,
    RandFlipd,
    Randomizable,
    RandSpatialCropSamplesd,
    ScaleIntensityd,
    Spacingd,
)

SIDE, SIZE = 8, 12
AFFINE = torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0]))
SOURCE = InMemorySource(SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE))), 5)


def scans():
    ramp = torch.linspace(0, 1, SIDE * SIDE).reshape(1, SIDE, SIDE)
    return [
        {
            "image": MetaTensor(ramp, affine=AFFINE, meta={"filename_or_obj": f"{k}.nii", "patient": "P1", "tr": 2.5}),
            "mask": MetaTensor((ramp > 0.5).float(), affine=AFFINE, meta={"filename_or_obj": f"m{k}.nii"}),
        }
        for k in range(SIZE)
    ]


@pytest.mark.parametrize("before", [None, ScaleIntensityd("image"), Spacingd(["image", "mask"], pixdim=(2.0, 2.0))])
def test_synthetic_rows_have_the_geometry_and_no_name(before):
    real = scans() if before is None else Dataset(scans(), before)
    mixed = SyntheticMixDataset(real, SOURCE, 0.5)
    batch = next(iter(DataLoader(mixed, batch_size=SIZE)))
    flags = mixed.is_synthetic()
    assert torch.equal(batch["image"].affine, AFFINE.double().expand(SIZE, 4, 4))
    names, patients = batch["image"].meta["filename_or_obj"], batch["image"].meta["patient"]
    assert [name == "" for name in names] == [patient == "" for patient in patients] == flags.tolist()
    assert len(decollate_batch(batch)) == SIZE
    kept = mixed[int(np.flatnonzero(~flags)[0])]["image"]
    assert kept.meta["patient"] == "P1"
    assert batch["mask"].dtype == torch.float32


def test_a_transform_sees_the_affine():
    mixed = SyntheticMixDataset(
        scans(), SOURCE, 0.5, synthetic_transform=Spacingd(["image", "mask"], pixdim=(2.0, 2.0))
    )
    assert {tuple(mixed[k]["image"].shape) for k in range(SIZE)} == {(1, SIDE, SIDE)}
    every = SyntheticMixDataset(scans(), SOURCE, 0.5, transform=Spacingd(["image", "mask"], pixdim=(1.0, 1.0)))
    assert len({tuple(every[k]["image"].shape) for k in range(SIZE)}) == 1


def test_metadata_of_one_sample_is_not_that_of_another():
    mixed = SyntheticMixDataset(scans(), SOURCE, 0.5)
    one, other = (mixed[int(k)]["image"] for k in np.flatnonzero(mixed.is_synthetic())[:2])
    one.meta["note"], one.affine[0, 0] = "changed", 7
    assert "note" not in other.meta
    assert float(other.affine[0, 0]) == 2
    assert anonymous_meta({"space": "RAS", "name": "x"}) == {"space": "RAS", "name": ""}


@pytest.mark.parametrize("provenance", [False, True])
@pytest.mark.parametrize(
    "crop",
    [
        RandCropByPosNegLabeld(["image", "mask"], label_key="mask", spatial_size=(4, 4), num_samples=3),
        Compose([RandSpatialCropSamplesd(["image", "mask"], roi_size=(4, 4), num_samples=2, random_size=False)]),
    ],
)
def test_lists_of_crops(crop, provenance):
    source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((4, 4))), 7)
    mixed = SyntheticMixDataset(Dataset(scans(), crop), source, 0.5, provenance=provenance)
    crops = {len(mixed[index]) for index in range(SIZE)}
    assert len(crops) == 1
    count = crops.pop()
    batch = next(iter(DataLoader(mixed, batch_size=SIZE)))
    assert batch["image"].shape == (SIZE * count, 1, 4, 4)
    if provenance:
        assert batch["provenance"]["is_synthetic"].tolist() == np.repeat(mixed.is_synthetic(), count).tolist()
        used = np.zeros(7, int)
        for epoch in range(14):
            mixed.set_epoch(epoch)
            for index in np.flatnonzero(mixed.is_synthetic()):
                used += np.bincount([part["provenance"]["id"] for part in mixed[int(index)]], minlength=7)
        assert used.sum() == 14 * SIZE // 2 * count
        assert np.ptp(used) <= count, "crop by crop, too, all are used about equally often"


class Numbers(torch.utils.data.Dataset, Randomizable):
    """MONAI's loader seeds what it finds among the attributes of a data set."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.R.randint(0, 1000, (1,))


def test_monais_loader_seeds_the_real_set_once():
    def numbers(dataset):
        torch.manual_seed(0)
        return torch.cat(list(DataLoader(dataset, batch_size=2, num_workers=0))).tolist()

    assert numbers(SyntheticMixDataset(Numbers(), [], ratio=0.0)) == numbers(Numbers())


def test_a_transform_of_the_mix_can_be_inverted():
    """MONAI compares ids of transforms; the one that runs is a copy of the user's."""
    turned = Compose([Spacingd(["image", "mask"], pixdim=(1.0, 1.0)), RandFlipd(["image", "mask"], prob=0.5)])
    mixed = SyntheticMixDataset(scans(), SOURCE, 0.5, transform=turned)
    back = Invertd(["image"], turned, orig_keys=["image"])
    for sample in decollate_batch(next(iter(DataLoader(mixed, batch_size=SIZE)))):
        assert back(sample)["image"].shape == (1, SIDE, SIDE)
