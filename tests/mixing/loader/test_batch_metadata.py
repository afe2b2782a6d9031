"""Metadata of images in a batch goes with the rows. TorchIO's batches are in `test_batches`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug.mixing.loader import SyntheticMixLoader
from torchgenaug.mixing.loader.batch_metadata import select_metadata
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

SEQUENCE = SyntheticSequence(AnalyticSynthesizer((8, 8)))


def scans(monai_data, count=8):
    """Images as MONAI's transforms hand them out: image k has the affine (k + 1)·I and a history of its own."""
    images = [
        monai_data.MetaTensor(
            torch.rand(1, 8, 8),
            affine=torch.eye(4) * (k + 1),
            meta={"filename_or_obj": f"{k}.nii", "spatial_shape": np.array([8, 8]), "header": {"pixdim": [k, k / 2]}},
            applied_operations=[{"class": "Flip", "id": k}] if k % 2 else [],
        )
        for k in range(count)
    ]
    return [{"image": image, "mask": torch.zeros(1, 8, 8, dtype=torch.int64)} for image in images]


@pytest.mark.parametrize("sides", [False, True])
@pytest.mark.parametrize("mode", ["replace", "extend"])
def test_monais_batches_keep_the_metadata_of_their_rows(mode, sides):
    data = pytest.importorskip("monai.data")
    samples = scans(data)
    loader = data.DataLoader(samples, batch_size=4, collate_fn=data.list_data_collate)
    transforms = {"real_transform": lambda batch: batch, "synthetic_transform": lambda batch: batch} if sides else {}
    mix = SyntheticMixLoader(loader, InMemorySource(SEQUENCE, 8), 0.5, mode=mode, **transforms)
    by_name = {sample["image"].meta["filename_or_obj"]: sample["image"] for sample in samples}
    for batch in mix:
        image = batch["image"]
        assert (type(image), image.is_batch, type(batch["mask"])) == (data.MetaTensor, True, torch.Tensor)
        rows = data.decollate_batch(batch)
        assert len(rows) == len(image) == len(mix.is_synthetic)
        first = by_name[rows[0]["image"].meta["filename_or_obj"]].affine if mode == "extend" else None
        for row, synthetic in zip(rows, mix.is_synthetic.tolist(), strict=True):
            made = row["image"]
            name = made.meta["filename_or_obj"]
            assert made.meta["spatial_shape"].tolist() == [8, 8]
            assert (name == "") == synthetic
            if synthetic:
                assert made.applied_operations in ([], "none")
                assert first is None or torch.equal(made.affine, first)
            else:
                one = by_name[name]
                assert torch.equal(made.as_tensor(), one.as_tensor())
                assert torch.equal(made.affine, one.affine)
                assert [float(size) for size in made.meta["header"]["pixdim"]] == one.meta["header"]["pixdim"]
                assert made.applied_operations in (
                    one.applied_operations,
                    "none" if not one.applied_operations else None,
                )


def test_a_batch_without_synthetic_rows_is_the_very_object():
    data = pytest.importorskip("monai.data")
    batches = list(data.DataLoader(scans(data), batch_size=4))
    mix = SyntheticMixLoader(batches, InMemorySource(SEQUENCE, 8), 0.0)
    assert all(mixed is plain for mixed, plain in zip(mix, batches, strict=True))


def test_metadata_that_is_not_per_row_stays():
    data = pytest.importorskip("monai.data")
    one = data.MetaTensor(torch.zeros(2, 3), meta={"study": [1, 2, 3], "name": "x"})
    made = select_metadata(one, torch.ones(3, 3), np.array([1]), 2)
    assert (type(made), made.meta["study"], made.meta["name"]) == (data.MetaTensor, [1, 2, 3], "x")
    one.is_batch = True
    assert select_metadata(one, torch.ones(3, 3), np.array([1]), 2).meta["study"] == [1, 2, 3]
