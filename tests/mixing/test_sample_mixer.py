"""`torchio.Queue` takes patches of mixed Subjects as of others; what else a mixer does is tested with the data set."""

from __future__ import annotations

import pytest
import torch
import torchio as tio
from torch.utils.data import DataLoader, TensorDataset

from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

SIDE, SIZE = 8, 6
SEQUENCE = SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE, SIDE)))


class Unread(tio.SubjectsDataset):
    def __getitem__(self, index):
        raise AssertionError("read")


def subjects(**options):
    images = torch.linspace(0, 1, SIDE**3).reshape(1, SIDE, SIDE, SIDE)
    return [
        tio.Subject(
            image=tio.ScalarImage(tensor=images * (1 - k / 100)),
            mask=tio.LabelMap(tensor=torch.full((1, SIDE, SIDE, SIDE), 7, dtype=torch.int64)),
            **{name: values[k] for name, values in options.items()},
        )
        for k in range(SIZE)
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_queue_over_a_mixed_set(workers):
    with SyntheticPool(SEQUENCE, 4, refresh=0.5, batch_size=2, background=False) as pool:
        mixed = SyntheticMixDataset(tio.SubjectsDataset(subjects()), pool, ratio=0.5)
        queue = tio.Queue(mixed, 12, 2, tio.UniformSampler(4), num_workers=workers, start_background=False)
        assert len(queue) == 2 * SIZE
        for epoch in range(2):
            mixed.set_epoch(epoch)
            patches = [batch["mask"]["data"] for batch in tio.SubjectsLoader(queue, batch_size=4, num_workers=0)]
            real = [bool((patch == 7).all()) for patch in torch.cat(patches)]
            assert len(real) == 2 * SIZE
            assert sum(real) == SIZE


@pytest.mark.parametrize("mode", ["replace", "extend"])
def test_subjects_are_named_without_being_read(mode):
    source = InMemorySource(SEQUENCE, 3)
    mixed = SyntheticMixDataset(tio.SubjectsDataset(subjects()), source, ratio=0.5, mode=mode)
    source.read = None
    mixed.real.__class__ = Unread
    dry = mixed.dry_iter()
    assert len(dry) == len(mixed)
    assert all(isinstance(subject, tio.Subject) for subject in dry)
    real = [subject for subject, made in zip(dry, mixed.is_synthetic(), strict=True) if not made]
    assert all(any(subject is mine for mine in mixed.real.dry_iter()) for subject in real)


def test_each_subject_may_say_how_many_patches_it_gives():
    counts = [1, 2, 3, 4, 5, 6]
    real = subjects(num_samples=counts)
    synthetic = subjects(num_samples=[9] * SIZE)
    mixed = SyntheticMixDataset(real, synthetic, count=2)
    queue = tio.Queue(mixed, 40, 2, tio.UniformSampler(4), start_background=False)
    kept = [count for count, made in zip(counts, mixed.is_synthetic(), strict=True) if not made]
    assert len(queue) == sum(kept) + 18
    assert len(list(DataLoader(queue, batch_size=1, collate_fn=lambda batch: batch))) == sum(kept) + 18


def with_patches(subject):
    subject["num_samples"] = 9
    return subject


def test_the_transform_of_synthetic_subjects_may_say_it():
    mixed = SyntheticMixDataset(
        subjects(num_samples=[1] * SIZE), InMemorySource(SEQUENCE, 3), count=2, synthetic_transform=with_patches
    )
    counts = [subject["num_samples"] for subject in mixed.dry_iter()]
    assert sorted(counts) == [1] * (SIZE - 2) + [9, 9]
    assert [count == 9 for count in counts] == mixed.is_synthetic().tolist()


def test_other_samples_are_refused():
    mixed = SyntheticMixDataset(
        TensorDataset(torch.linspace(0, 1, 4 * SIDE**3).reshape(4, 1, SIDE, SIDE, SIDE)),
        InMemorySource(SEQUENCE, 3),
        fields=["image"],
    )
    with pytest.raises(ConfigurationError, match="for samples that are torchio Subjects, got samples of type tuple"):
        mixed.dry_iter()


class Fragile(list):
    """A data set that cannot be read at one position."""

    bad = -1

    def __getitem__(self, index):
        if index == self.bad:
            raise OSError("disk")
        return super().__getitem__(index)


class FragileBatches(Fragile):
    def __getitems__(self, indices):
        return [self[k] for k in indices]


@pytest.mark.parametrize("synthetic", [Fragile, FragileBatches])
@pytest.mark.parametrize("real", [Fragile, FragileBatches])
def test_one_by_one_or_in_batches_the_samples_are_the_same(real, synthetic):
    mixed = SyntheticMixDataset(
        real((torch.zeros(2), k) for k in range(20)),
        synthetic((torch.ones(2), k) for k in range(9)),
        0.4,
        fields=("image", "label"),
    )
    flags, positions = mixed.plan.look_up(range(20), 0)
    order = [7, 3, *range(8, 20), 3]
    assert [label for _, label in mixed.__getitems__(order)] == positions[order].tolist()
    assert [bool(image.all()) for image, _ in mixed.__getitems__(order)] == flags[order].tolist()


@pytest.mark.parametrize("synthetic", [Fragile, FragileBatches])
def test_only_a_real_sample_that_fails_is_called_one(synthetic):
    real, made = Fragile((torch.zeros(2), k) for k in range(20)), synthetic((torch.ones(2), k) for k in range(9))
    mixed = SyntheticMixDataset(real, made, 0.4, fields=("image", "label"))
    flags, positions = mixed.plan.look_up(range(20), 0)
    real.bad = int(positions[~flags][3])
    with pytest.raises(OSError, match="disk") as error:
        mixed.__getitems__(list(range(20)))
    assert error.value.__notes__ == [f"while reading real sample {real.bad}"]
    real.bad, made.bad = -1, int(positions[flags][3])
    with pytest.raises(OSError, match="disk") as error:
        mixed.__getitems__(list(range(20)))
    assert not hasattr(error.value, "__notes__")
