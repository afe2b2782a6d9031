from __future__ import annotations

import numpy as np
import pytest
import torch
import torchio as tio

from torchgenaug.samples import torchio_copies
from torchgenaug.samples.layout import SampleLayout
from torchgenaug.samples.random_state import seeded
from torchgenaug.samples.seeded_transform import SeededTransform
from torchgenaug.samples.torchio_copies import without_copies

SEEDS = np.array([5, 2**63 + 4], np.uint64)
KINDS = {"image": "image", "mask": "label_map"}


def samples():
    """Views of one memory, as a `TensorDataset` hands them out."""
    images = torch.rand((len(SEEDS), 1, 8, 8, 8), generator=torch.Generator().manual_seed(0)) + 0.1
    masks = (images > 0.6).to(torch.int64)
    return [{"image": image, "mask": mask} for image, mask in zip(images, masks, strict=True)]


class OfAUser(tio.RandomFlip):
    pass


COPYING = (  # what is left to copy as it does
    tio.RandomAnisotropy(downsampling=2),
    tio.CropOrPad(6),
    tio.Lambda(lambda data: data.mul_(2)),
    OfAUser(),
)
DRAWING = (  # patches and displacements that fit a volume of 8^3
    *(
        tio.RandomSwap(patch_size=3) if kind is tio.RandomSwap else kind()
        for kind in sorted(torchio_copies._APPLY_ONE, key=lambda kind: kind.__name__)
        if kind.__module__.startswith("torchio.") and "Elastic" not in kind.__name__
    ),
    tio.RandomElasticDeformation(max_displacement=0.5),
    tio.RandomAffineElasticDeformation(elastic_kwargs={"max_displacement": 0.5}),
    tio.RandomFlip(p=0),
    tio.RandomGamma(include=["image"]),
    tio.Compose([tio.RandomFlip(axes=(0, 1, 2)), tio.RandomNoise(), tio.ZNormalization()]),
    tio.Compose({"inner": tio.Compose([tio.RandomFlip(), tio.Lambda(lambda data: data.mul_(2))])}),
    tio.OneOf({tio.RandomFlip(): 0.5, tio.RandomGamma(): 0.5}),
)


def named(transform):
    return f"{type(transform).__name__}{len(repr(transform))}"


@pytest.mark.parametrize("transform", [*DRAWING, *COPYING], ids=named)
@pytest.mark.filterwarnings("ignore:The maximum displacement")
def test_results_are_those_with_copies_and_the_samples_stay(transform):
    expected = []
    for sample, seed in zip(samples(), SEEDS, strict=True):
        subject = tio.Subject(image=tio.ScalarImage(tensor=sample["image"]), mask=tio.LabelMap(tensor=sample["mask"]))
        with seeded(torch_only=False) as reseed:
            reseed(int(seed))
            expected.append(transform(subject))
    given = samples()
    found = SeededTransform(transform, SampleLayout.of(given[0]), KINDS)(given, SEEDS)
    memory = {one[name].untyped_storage().data_ptr() for one in given for name in KINDS}
    for one, other, sample, untouched in zip(found, expected, given, samples(), strict=True):
        for name in KINDS:
            assert torch.equal(one[name], other[name].data.to(one[name].dtype))
            assert torch.equal(sample[name], untouched[name])
            assert one[name].untyped_storage().data_ptr() not in memory


@pytest.mark.parametrize("transform", [*DRAWING[:-3], *COPYING[:1]], ids=named)
@pytest.mark.filterwarnings("ignore:The maximum displacement")
def test_a_transform_copies_no_more_than_its_sample(transform, monkeypatch):
    copied = []
    plain = torch.Tensor.__deepcopy__

    def counted(self, memo):
        copied.append(self.untyped_storage().nbytes() / self.nbytes)
        return plain(self, memo)

    monkeypatch.setattr(torch.Tensor, "__deepcopy__", counted)
    given = samples()
    SeededTransform(transform, SampleLayout.of(given[0]), KINDS)(given, SEEDS)
    assert set(copied) == ({1} if transform in COPYING else set())


def test_one_that_is_to_change_its_sample_still_does():
    given = samples()
    before = samples()[0]["image"]
    SeededTransform(tio.Lambda(lambda data: data.mul_(2), copy=False), SampleLayout.of(given[0]), KINDS)(given, SEEDS)
    assert torch.equal(given[0]["image"], before * 2)


def test_the_users_own_is_left_as_it_was():
    inner = tio.RandomFlip()
    transform = tio.Compose([inner])
    assert without_copies(transform).transforms[0].copy is False
    assert transform.copy
    assert inner.copy
    assert transform.transforms == [inner]
    for other in COPYING:
        assert without_copies(other) is other
