from __future__ import annotations

import random
from collections import OrderedDict, namedtuple
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torchio as tio
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from torchgenaug.errors import (
    ConfigurationError,
    EmptyDatasetError,
    FieldMismatchError,
    IntensityMismatchWarning,
)
from torchgenaug.mixing.loader import SyntheticMixLoader
from torchgenaug.mixing.loader import mix_loader as loader_module
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.sources import CombinedSource
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource
from torchgenaug.types import FieldSpec

SIDE = 8
Pair = namedtuple("Pair", ["image", "mask"])
KINDS = ["dict", "ordered", "tuple", "list", "namedtuple", "tensor", "subject"]
FIELDS = {"tuple": ("image", "mask"), "list": ("image", "mask"), "tensor": ("image",)}
SEQUENCE = SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE)))


def source(count=16):
    return InMemorySource(SEQUENCE, count)


def real_images(size):
    """Image k holds k / 100 everywhere, but for the first pixels, so that it is not constant."""
    images = (torch.arange(size) / 100).reshape(-1, 1, 1, 1).expand(size, 1, SIDE, SIDE).clone()
    images[:, :, :4, :4] += 0.4
    return images


def real_masks(size):
    return torch.arange(size).reshape(-1, 1, 1, 1).expand(size, 1, SIDE, SIDE).clone()


def make_loader(kind, size=10, batch_size=4):
    images, masks = real_images(size), real_masks(size)
    if kind == "subject":
        affine = np.diag([2.0, 3.0, 1.0, 1.0])
        subjects = [
            tio.Subject(
                image=tio.ScalarImage(tensor=image[..., None], affine=affine),
                mask=tio.LabelMap(tensor=mask[..., None]),
            )
            for image, mask in zip(images, masks, strict=True)
        ]
        return tio.SubjectsLoader(subjects, batch_size=batch_size)
    build = {
        "dict": lambda image, mask: {"image": image, "mask": mask},
        "ordered": lambda image, mask: OrderedDict(mask=mask, image=image),
        "namedtuple": Pair,
        "tensor": lambda image, mask: image,
    }.get(kind, lambda image, mask: (image, mask))
    samples = [build(image, mask) for image, mask in zip(images, masks, strict=True)]
    loader = DataLoader(samples, batch_size=batch_size)
    return [tuple(batch) for batch in loader] if kind == "tuple" else loader


def parts(batch):
    """Image and mask of a batch of any kind."""
    if isinstance(batch, torch.Tensor):
        return batch, None
    image, mask = (batch["image"], batch["mask"]) if isinstance(batch, dict) else batch[:2]
    return (image["data"][..., 0], mask["data"][..., 0]) if isinstance(image, dict) else (image, mask)


@pytest.mark.parametrize("mode", ["replace", "extend"])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_keep_their_structure(kind, mode):
    loader, supply = make_loader(kind), source()
    plain = list(loader)
    mix = SyntheticMixLoader(loader, supply, 0.5, mode=mode, fields=FIELDS.get(kind), provenance=False)
    seen = 0
    for raw, batch in zip(plain, mix, strict=True):
        assert type(batch) is type(raw)
        if isinstance(raw, dict):
            assert list(batch) == list(raw)
        (image, mask), (real, _) = parts(batch), parts(raw)
        flags = mix.is_synthetic
        made, size = int(flags.sum()), len(real)
        assert made == (size / 2 if mode == "replace" else size)
        assert len(image) == len(flags) == (size if mode == "replace" else 2 * size)
        assert flags.tolist() == sorted(flags.tolist()), "real rows come first"
        assert image.dtype == real.dtype
        assert mask is None or mask.dtype == torch.int64
        # The real rows are those of the loader, in its order; the synthetic ones are samples of the source.
        ids = (image[~flags][:, 0, -1, -1] * 100).round().long()
        assert ids.tolist() == sorted(set(ids.tolist()) & set(range(seen, seen + size)))
        if mask is not None:
            assert torch.equal(mask[~flags][:, 0, 0, 0], ids)
        every = supply.read(np.arange(16))["image"]
        assert all((every == row).flatten(1).all(1).any() for row in image[flags])
        seen += size


class ReadsOnly:
    """A source without what is optional."""

    def __init__(self, source):
        self.source, self.fields, self.fingerprint = source, source.fields, source.fingerprint
        self.ids, self.seeds, self.column = source.ids, source.seeds, source.column

    def __len__(self):
        return len(self.source)

    def read(self, positions):
        return self.source.read(positions)


class WritesOnly(ReadsOnly):
    """A source whose samples have to be written where they are wanted, once its first batch was probed."""

    def read(self, positions):
        assert len(positions) == 4, "read is for the probe"
        return self.source.read(positions)

    def read_into(self, positions, out):
        self.source.read_into(positions, out)


@pytest.mark.parametrize("mode", ["replace", "extend"])
@pytest.mark.parametrize("kind", KINDS)
def test_written_into_the_batch_or_read_and_copied_it_is_the_same(kind, mode):
    options = {"ratio": 0.5, "mode": mode, "fields": FIELDS.get(kind), "provenance": kind == "dict"}
    written = SyntheticMixLoader(make_loader(kind), WritesOnly(source()), **options)
    copied = SyntheticMixLoader(make_loader(kind), ReadsOnly(source()), **options)
    for one, other in zip(written, copied, strict=True):
        for mine, theirs in zip(parts(one), parts(other), strict=True):
            assert mine is theirs is None or torch.equal(mine, theirs)
        if kind == "dict":
            assert torch.equal(one["provenance"]["id"], other["provenance"]["id"])


def test_numbers_of_another_dtype_are_still_converted():
    real = [{"image": real_images(4), "age": torch.zeros(4, dtype=torch.float64)}]

    class Ages(InMemorySource):
        def __init__(self):
            super().__init__(SEQUENCE, 16)
            self.fields = {"image": self.fields["image"], "age": FieldSpec((), kind="scalar")}
            self._batch["age"] = torch.arange(1, 17.0)

        def read(self, positions):
            return {name: values for name, values in super().read(positions).items() if name in self.fields}

    batch = next(iter(SyntheticMixLoader(real, Ages(), 0.5)))
    assert batch["age"].dtype == torch.float64
    assert batch["age"][2:].all()


def test_what_torchio_says_beside_an_image():
    real = next(iter(make_loader("subject")))
    real["image"]["stem"] = ["0", "1", "2", "3"]
    for mode, size in (("replace", 4), ("extend", 8)):
        mix = SyntheticMixLoader([real], source(), 0.5, mode=mode)
        batch = next(iter(mix))
        flags = mix.is_synthetic
        assert batch["image"]["data"].shape == (size, 1, SIDE, SIDE, 1)
        assert batch["image"]["affine"].shape == (size, 4, 4)
        assert (batch["image"]["affine"] == np.diag([2.0, 3.0, 1.0, 1.0])).all()
        assert batch["image"]["type"] == ["intensity"] * size
        assert batch["mask"]["type"] == ["label"] * size
        rows = (batch["image"]["data"][~flags][:, 0, -1, -1, 0] * 100).round().long().tolist()
        assert batch["image"]["stem"] == [*map(str, rows), *[""] * int(flags.sum())]


def test_other_images_are_replaced_each_batch_and_epoch():
    mix = SyntheticMixLoader([real_images(8)] * 50, source(), 0.25)
    kept = [tuple((batch[:6, 0, -1, -1] * 100).round().int().tolist()) for _ in range(2) for batch in mix]
    assert len(set(kept)) > 20
    assert set(sum(kept, ())) == set(range(8))
    assert kept[:50] != kept[50:]


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]),
    st.integers(0, 3),
)
def test_counts_over_batches_of_any_size(sizes, ratio, seed):
    mix = SyntheticMixLoader([real_images(size) for size in sizes], source(), ratio, seed=seed)
    made = []
    for size, batch in zip(sizes, mix, strict=True):
        assert len(batch) == size
        made.append(int(mix.is_synthetic.sum()))
        assert abs(made[-1] - ratio * size) < 1
    assert abs(sum(made) - ratio * sum(sizes)) < 1


def test_ratio_zero_hands_out_the_very_batches():
    batches = [{"image": real_images(3)}, {"image": real_images(2)}]
    mix = SyntheticMixLoader(batches, source(), 0.0)
    assert all(mine is theirs for mine, theirs in zip(mix, batches, strict=True))
    assert mix.is_synthetic.tolist() == [False, False]
    empty = SyntheticMixLoader(batches, InMemorySource(SEQUENCE, 0), lambda epoch: 0.0)
    assert len(list(empty)) == 2


def test_an_all_synthetic_loader():
    mix = SyntheticMixLoader(make_loader("dict"), source(), 1.0)
    batches = list(mix)
    assert [len(batch["image"]) for batch in batches] == [4, 4, 2]
    assert mix.is_synthetic.all()


def test_batches_are_the_users_own():
    """Neither the source nor the loader's tensors change when a batch is written to."""
    batches, supply = [real_images(4)], source()
    before, samples = batches[0].clone(), supply.read(np.arange(16))["image"]
    mix = SyntheticMixLoader(batches, supply, 0.5)
    kept = [(batch, batch.clone()) for _ in range(2) for batch in mix]
    for batch, _ in kept[1:]:
        batch.zero_()
    assert torch.equal(kept[0][0], kept[0][1])
    assert torch.equal(batches[0], before)
    assert torch.equal(supply.read(np.arange(16))["image"], samples)


def test_a_batch_is_a_function_of_seed_epoch_and_number():
    def run(seed, epochs):
        mix = SyntheticMixLoader(make_loader("dict"), source(), 0.5, seed=seed)
        for epoch in epochs:
            mix.set_epoch(epoch)
            yield [batch["image"] for batch in mix]

    forwards, backwards = list(run(0, [0, 1, 2])), list(run(0, [2, 1, 0]))[::-1]
    for there, here in zip(forwards, backwards, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(there, here, strict=True))
    assert not torch.equal(forwards[0][0], forwards[1][0])
    assert not torch.equal(forwards[0][0], next(run(1, [0]))[0])


def test_samples_of_the_source_are_used_equally_often_over_epochs():
    mix = SyntheticMixLoader(make_loader("dict"), source(), 0.5, provenance=True)
    ids = torch.cat([batch["provenance"]["id"] for _ in range(8) for batch in mix])
    assert np.bincount(ids[ids >= 0], minlength=16).tolist() == [2 if k < 8 else 3 for k in range(16)] or (
        np.ptp(np.bincount(ids[ids >= 0], minlength=16)) <= 1
    )


def test_fields_leave_out_what_the_synthetic_samples_do_not_have():
    batch = {"image": real_images(4), "name": list("abcd"), "age": torch.arange(4)}
    mix = SyntheticMixLoader([batch], source(), 0.5, fields=["image"])
    assert list(next(iter(mix))) == ["image"]
    assert list(next(iter(SyntheticMixLoader([batch], source(), 0.0, fields=["image"])))) == ["image"]


def test_numbers_per_sample_take_the_real_dtype():
    class Numbers:
        fingerprint = "a" * 64

        def __call__(self, ids):
            return {"age": torch.tensor([float(k) for k in ids]), "label": torch.tensor(ids, dtype=torch.int32)}

    supply = InMemorySource(SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE)), Numbers()), 8)
    samples = [
        {"image": image, "mask": mask, "age": 1.5, "label": 3}
        for image, mask in zip(real_images(4), real_masks(4), strict=True)
    ]
    batch = next(iter(SyntheticMixLoader(DataLoader(samples, 4), supply, 0.5)))
    assert batch["age"].dtype == torch.float64
    assert batch["label"].dtype == torch.int64
    assert batch["age"][2:].tolist() == [float(k) for k in batch["label"][2:]]


@pytest.mark.parametrize("kind", ["dict", "tuple", "list", "tensor", "subject"])
def test_provenance(kind):
    supply = source()
    mix = SyntheticMixLoader(make_loader(kind), supply, 0.5, fields=FIELDS.get(kind), provenance=True)
    batch = next(iter(mix))
    origin = batch["provenance"] if isinstance(batch, dict) else batch[-1]
    image = parts(batch[0] if kind == "tensor" else batch)[0]
    assert origin["is_synthetic"].tolist() == mix.is_synthetic.tolist() == [False, False, True, True]
    assert origin["id"][:2].tolist() == [-1, -1]
    assert torch.equal(SEQUENCE.batch(origin["id"][2:].numpy())["image"], image[2:])
    assert origin["seed"] == ["", "", *(f"{seed:016x}" for seed in SEQUENCE.seeds(origin["id"][2:].numpy()).tolist())]
    assert origin["parent"].tolist() == [-1] * 4
    assert origin["fingerprint"] == ["", "", *[SEQUENCE.fingerprint] * 2]


def test_no_provenance_in_a_namedtuple():
    mix = SyntheticMixLoader(make_loader("namedtuple"), source(), 0.5, provenance=True)
    with pytest.raises(ConfigurationError, match="cannot be added to a NamedTuple"):
        next(iter(mix))


def shift(batch):
    """Random in torch, numpy and Python."""
    amount = torch.rand(()) + np.random.rand() + random.random()
    return {**batch, "image": batch["image"] + 1 + amount}


def test_transforms_of_real_synthetic_and_all():
    def marked(value):
        return lambda batch: {
            **batch,
            "image": batch["image"] * 0 + value,
            "mask": batch["mask"] * 0 + len(batch["image"]),
        }

    mix = SyntheticMixLoader(
        make_loader("dict"), source(), 0.25, real_transform=marked(1.0), synthetic_transform=marked(2.0),
        transform=lambda batch: {**batch, "image": batch["image"] + 10},
    )  # fmt: skip
    with pytest.warns(IntensityMismatchWarning):
        batches = list(mix)
    for batch in batches:
        flags = batch["image"][:, 0, 0, 0] == 12
        assert torch.equal(
            batch["image"], torch.where(flags, 12.0, 11.0).reshape(-1, 1, 1, 1).expand_as(batch["image"])
        )
        sizes = batch["mask"][:, 0, 0, 0]
        assert (sizes[flags] == flags.sum()).all()
        assert (sizes[~flags] == (~flags).sum()).all()


def test_transforms_may_make_the_two_fit():
    large = [{"image": torch.nn.functional.interpolate(real_images(4), scale_factor=2.0)}]
    mix = SyntheticMixLoader(
        large, source(), 0.5, fields=["image"], real_transform=lambda batch: {"image": batch["image"][..., ::2, ::2]}
    )
    assert next(iter(mix))["image"].shape == (4, 1, SIDE, SIDE)


@pytest.mark.parametrize("which", ["real_transform", "synthetic_transform"])
def test_a_batch_without_real_rows_looks_like_the_others(which):
    """The last batch, of one sample, is replaced as a whole in some epochs."""
    sample = {"image": real_images(1)[0].repeat(1, 2, 2), "age": 50.0}  # collated to float64

    def crop(batch):
        return {**batch, "image": batch["image"][..., :SIDE, :SIDE]}

    class Aged(InMemorySource):
        def __init__(self, side):
            super().__init__(SyntheticSequence(AnalyticSynthesizer((side, side))), 8)
            self.fields = {"image": self.fields["image"], "age": FieldSpec((), kind="scalar")}

        def read(self, positions):
            return {"image": super().read(positions)["image"], "age": torch.rand(len(positions))}

        read_into = None

    there = Aged(SIDE if which == "real_transform" else 2 * SIDE)
    mix = SyntheticMixLoader(DataLoader([sample] * 5, 4), there, 0.6, fields=["image", "age"], **{which: crop})
    if which == "synthetic_transform":
        mix = SyntheticMixLoader(
            DataLoader([{"image": crop(sample)["image"], "age": 50.0}] * 5, 4), there, 0.6, fields=["image", "age"],
            synthetic_transform=crop,
        )  # fmt: skip
    synthetic = []
    for _ in range(3):
        for batch in mix:
            assert (batch["image"].shape[1:], batch["age"].dtype) == ((1, SIDE, SIDE), torch.float64)
            assert len(batch["image"]) == len(batch["age"]) == len(mix.is_synthetic)
            synthetic.append(float(mix.is_synthetic.float().mean()))
    assert 1.0 in synthetic


def test_random_transforms_are_seeded_and_leave_no_trace():
    batches = list(make_loader("dict"))

    def run(which):
        mix = SyntheticMixLoader(batches, source(), 0.5, **{which: shift})  # a DataLoader would draw a seed
        return [batch["image"] for _ in range(2) for batch in mix]

    for which in ("transform", "real_transform", "synthetic_transform"):
        with pytest.warns(IntensityMismatchWarning) if which != "transform" else nullcontext():
            torch.manual_seed(1)
            first = run(which)
            torch.manual_seed(2)
            states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
            again = run(which)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert torch.equal(states[0], torch.get_rng_state())
        assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())
        assert not torch.equal(first[0], first[3])


def test_transforms_that_do_not_return_a_batch():
    mix = SyntheticMixLoader(make_loader("dict"), source(), 0.5, transform=lambda batch: None)
    with pytest.raises(FieldMismatchError, match="must return a batch like the one that it gets, a dict, got NoneType"):
        list(mix)
    with pytest.raises(ConfigurationError, match="must be a function batch -> batch, got int"):
        SyntheticMixLoader(make_loader("dict"), source(), 0.5, transform=3)
    with pytest.raises(ConfigurationError, match="got the TorchIO transform RandomFlip, which takes one sample"):
        SyntheticMixLoader(make_loader("dict"), source(), 0.5, synthetic_transform=tio.RandomFlip())


def test_all_differences_are_listed_at_the_first_batch():
    batch = {"image": real_images(4)[..., :5].double(), "age": torch.arange(4)}
    with pytest.raises(FieldMismatchError) as caught:
        next(iter(SyntheticMixLoader([batch], source(), 0.01)))
    message = str(caught.value)
    assert "missing 'age': the real batches have it" in message
    assert "'image': real (1, 8, 5) torch.float64, synthetic (1, 8, 8) torch.float32" in message
    assert "surplus 'mask'" in message
    assert "fields=('image',)" in message
    mix = SyntheticMixLoader([(real_images(4),)], source(), 0.5, fields=["other"], real_transform=lambda x: x)
    with pytest.raises(FieldMismatchError, match="missing 'other'"):
        next(iter(mix))
    with pytest.raises(FieldMismatchError, match=r"real \(1, 4, 8\) torch.float32, synthetic \(1, 8, 8\)"):
        list(SyntheticMixLoader([real_images(4), real_images(4)[:, :, :4]], source(), 0.5))


def test_batches_that_cannot_be_mixed():
    for fields, message in (
        ("ab", "got list for 'b'"),
        ("ac", r"a tensor of shape \(3,\) for 'c'"),
        ("ad", "got int for 'd'"),
    ):
        batch = {"a": real_images(2), "b": ["x", "y"], "c": torch.zeros(3), "d": 4}
        with pytest.raises(FieldMismatchError, match=message):
            next(iter(SyntheticMixLoader([batch], source(), 0.5, fields=list(fields))))
    with pytest.raises(ConfigurationError, match="`fields` must name the 2 positions"):
        next(iter(SyntheticMixLoader(make_loader("list"), source(), 0.5)))
    with pytest.raises(ConfigurationError, match=r"got a str\. Let the loader's collate_fn"):
        next(iter(SyntheticMixLoader(["abc"], source(), 0.5)))


def test_mistakes_are_named():
    loader = make_loader("dict")
    with pytest.raises(ConfigurationError, match=r"got a SyntheticSequence.*Wrap it: SyntheticPool"):
        SyntheticMixLoader(loader, SEQUENCE)
    with pytest.raises(
        ConfigurationError, match=r"got TensorDataset\. Mix a map-style data set with SyntheticMixDataset"
    ):
        SyntheticMixLoader(loader, TensorDataset(real_images(3)))
    with pytest.raises(ConfigurationError, match="An iterator has one pass only"):
        SyntheticMixLoader(iter(loader), source())
    with pytest.raises(
        ConfigurationError, match="`loader` must be a DataLoader or another iterable of batches, got int"
    ):
        SyntheticMixLoader(3, source())
    with pytest.raises(ConfigurationError, match=r"`ratio` must be in \[0, 1\), got 1.0 in mode 'extend'"):
        SyntheticMixLoader(loader, source(), 1.0, mode="extend")
    with pytest.raises(EmptyDatasetError, match="The synthetic source is empty"):
        SyntheticMixLoader(loader, source(0))
    with pytest.raises(ConfigurationError, match="`epoch` must be a non-negative integer, got -1"):
        SyntheticMixLoader(loader, source()).set_epoch(-1)


def test_warns_when_brightness_tells_real_from_synthetic():
    with pytest.warns(IntensityMismatchWarning, match="Field 'image' has grossly different intensities"):
        list(SyntheticMixLoader([real_images(4) * 255], source(), 0.5))


def test_looks_like_the_loader_that_it_wraps():
    loader = make_loader("dict")
    mix = SyntheticMixLoader(loader, source())
    assert (len(mix), mix.batch_size, mix.dataset, mix.sampler) == (3, 4, loader.dataset, loader.sampler)
    assert mix.batch_sampler is loader.batch_sampler
    assert mix.loader is loader
    assert repr(mix).startswith("SyntheticMixLoader(<torch.utils.data")
    assert not hasattr(SyntheticMixLoader([real_images(2)], source()), "dataset")
    assert SyntheticMixLoader([real_images(2)], source()).batch_size is None


class Stream(IterableDataset):
    def __iter__(self):
        return iter(real_images(7))


def test_a_loader_of_unknown_length():
    mix = SyntheticMixLoader(DataLoader(Stream(), batch_size=3), source(), 0.5, mode="extend")
    with pytest.raises(TypeError):
        len(mix)
    epochs = [list(mix), list(mix)]
    assert [len(batch) for batch in epochs[0]] == [6, 6, 2]
    assert not torch.equal(epochs[0][0], epochs[1][0])


def test_each_pass_is_an_epoch_unless_it_is_said_otherwise():
    class Moved:
        def __init__(self):
            self.epochs, self.batches = [], [real_images(2)]

        def __iter__(self):
            return iter(self.batches)

        def set_epoch(self, epoch):
            self.epochs.append(epoch)

    loader = Moved()
    mix = SyntheticMixLoader(loader, source(), 0.5)
    for _ in range(3):
        list(mix)
    assert (loader.epochs, mix.epoch) == ([1, 2], 2)
    mix.set_epoch(7)
    list(mix)
    list(mix)
    assert (loader.epochs, mix.epoch) == ([1, 2, 7, 8], 8)


def test_an_iterator_that_is_left_alive_does_not_touch_the_next_pass():
    mix = SyntheticMixLoader(make_loader("dict", 24), source(), 0.5)
    for number, _ in enumerate(mix):
        if number == 2:
            mix.set_epoch(1)
    assert {name: mix.state_dict()[name] for name in ("epoch", "batch", "seen", "ended")} == {
        "epoch": 1,
        "batch": 0,
        "seen": 0,
        "ended": False,
    }
    assert len(list(mix)) == 6
    assert mix.epoch == 1

    old = iter(mix)
    next(old)
    new = iter(mix)
    next(new)
    for _ in old:
        pass
    assert (mix.state_dict()["epoch"], mix.state_dict()["batch"], mix.state_dict()["ended"]) == (3, 1, False)


def test_a_pool_and_the_sampler_move_with_the_epoch():
    class Sampler(torch.utils.data.SequentialSampler):
        epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

    images = TensorDataset(real_images(8))
    sampler = Sampler(images)
    with SyntheticPool(SEQUENCE, 4, refresh=0.5, batch_size=2) as pool:
        mix = SyntheticMixLoader(DataLoader(images, 4, sampler=sampler), pool, 0.5, fields=["image"], provenance=True)
        for epoch in range(4):
            mix.set_epoch(epoch)
            ids = torch.cat([origin["id"][2:] for _, origin in mix])
            assert sampler.epoch == pool.epoch == epoch
            assert sorted(ids.tolist()) == list(range(2 * epoch, 2 * epoch + 4))


def test_a_mix_over_a_pool_that_is_further_on_begins_there():
    class Sampler(torch.utils.data.SequentialSampler):
        epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

    images = TensorDataset(real_images(8))
    sampler = Sampler(images)
    with SyntheticPool(SEQUENCE, 4, refresh=0.5, batch_size=2) as pool:
        pool.set_epoch(3)
        for there in (pool, CombinedSource([pool, source(4)])):
            sampler.epoch = 0
            mix = SyntheticMixLoader(DataLoader(images, 4, sampler=sampler), there, 0.5, fields=["image"])
            list(mix)
            assert sampler.epoch == mix.epoch == pool.epoch == 3


def test_each_rank_uses_all_of_a_pool_of_its_own(monkeypatch):
    """Two ranks draw four of eight a pass each: planned as one, each would see half of its pool for ever."""
    for rank in range(2):
        monkeypatch.setattr(loader_module, "group_rank", lambda rank=rank: (rank, 2))
        with SyntheticPool(SEQUENCE, 8, refresh=0.0, batch_size=2, rank=rank, world_size=2) as pool:
            mix = SyntheticMixLoader(make_loader("dict", 8), pool, 0.5, provenance=True)
            ids = torch.cat([batch["provenance"]["id"] for _ in range(2) for batch in mix])
            assert len(set(ids[ids >= 0].tolist())) == 8


def test_a_device_that_is_the_cpu_changes_nothing():
    there, here = (SyntheticMixLoader(make_loader("dict"), source(), 0.5, device=d) for d in (None, "cpu"))
    for a, b in zip(there, here, strict=True):
        assert torch.equal(a["image"], b["image"])


def test_ranks_draw_other_samples(monkeypatch):
    ids = []
    for rank in range(2):
        monkeypatch.setattr(loader_module, "group_rank", lambda rank=rank: (rank, 2))
        mix = SyntheticMixLoader(make_loader("dict", size=8), source(), 0.5, provenance=True)
        ids.append(torch.cat([batch["provenance"]["id"] for _ in range(2) for batch in mix]))
    drawn = torch.cat(ids)
    assert sorted(drawn[drawn >= 0].tolist()) == list(range(16))


class Clock:
    """Every look at it takes a second."""

    def __init__(self, seconds_per_look):
        self.now, self.step = 0.0, seconds_per_look

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.mark.parametrize(
    ("ratio", "mode", "warns"), [(0.5, "replace", True), (0.25, "replace", False), (0.5, "extend", False)]
)
def test_warns_once_where_the_loop_waits_for_what_is_thrown_away(monkeypatch, ratio, mode, warns):
    monkeypatch.setattr(loader_module, "perf_counter", Clock(1.0))
    mix = SyntheticMixLoader([real_images(4)] * 40, source(), ratio, mode=mode)
    if not warns:
        list(mix)
        return
    with pytest.warns(UserWarning, match="SyntheticMixDataset does not load them") as caught:
        assert len([batch for _ in range(2) for batch in mix]) == 80
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_short_runs_do_not_warn_of_waste():
    list(SyntheticMixLoader([real_images(4)] * 40, source(), 0.9))


@pytest.mark.parametrize("workers", [1])
def test_over_workers(workers):
    loader = DataLoader(TensorDataset(real_images(9)), 4, num_workers=workers)
    mix = SyntheticMixLoader(loader, source(), 0.5, fields=["image"])
    alone = SyntheticMixLoader(DataLoader(TensorDataset(real_images(9)), 4), source(), 0.5, fields=["image"])
    for a, b in zip(mix, alone, strict=True):
        assert torch.equal(a[0], b[0])


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_the_same_batches(kind):
    plain = SyntheticMixLoader(make_loader(kind), source(), 0.5, fields=FIELDS.get(kind))
    on_gpu = SyntheticMixLoader(make_loader(kind), source(), 0.5, fields=FIELDS.get(kind), device="cuda")
    for there, here in zip(plain, on_gpu, strict=True):
        for a, b in zip(parts(there), parts(here), strict=True):
            assert a is None or (b.is_cuda and torch.equal(a, b.cpu()))


@pytest.mark.gpu
def test_a_pool_on_the_gpu_is_read_there():
    with SyntheticPool(SEQUENCE, 8, batch_size=4, device="cuda") as pool:
        mix = SyntheticMixLoader(make_loader("dict", 64, 8), pool, 0.5, device="cuda", transform=shift, provenance=True)
        for _ in range(3):
            for batch in mix:
                assert batch["image"].is_cuda
                assert batch["provenance"]["is_synthetic"].is_cuda
