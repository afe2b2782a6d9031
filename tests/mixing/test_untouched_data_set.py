"""The user's data set is as it was after wrapping, and is first read in the process that needs its samples."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import threading
import weakref
import zipfile

import numpy as np
import pytest
import torch
import torchio as tio
from torch.utils.data import DataLoader, Dataset, Subset

from torchgenaug import (
    FillMissing,
    RealFields,
    SyntheticMixDataset,
    SyntheticPool,
    SyntheticSequence,
    TransformedSynthesizer,
)
from torchgenaug.errors import ConfigurationError, SampleIndexError
from torchgenaug.samples.own_copy import OwnCopy, look_at, own_copy
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

SHAPE = (1, 8, 8)
FIELDS = ("image", "label")
SOURCE = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8))), 4)
SYNTHETIC = [(torch.full(SHAPE, 9.0), 9)] * 4


class Archive(Dataset):
    """Opens its file at the first read, as everybody recommends."""

    def __init__(self, path, size=40):
        self.path, self.size, self.handle, self.reads = path, size, None, 0

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.reads += 1
        if self.handle is None:
            self.handle = zipfile.ZipFile(self.path)
        value = int(self.handle.read(str(index)))
        return {"image": torch.full(SHAPE, value / 10), "mask": torch.full(SHAPE, value % 2)}


@functools.cache
def opened(path):
    return os.getpid(), zipfile.ZipFile(path)


class CachedArchive(Archive):
    """Its handle lies in the module."""

    def __getitem__(self, index):
        owner, handle = opened(self.path)
        assert owner == os.getpid(), "a handle of another process"
        return {"image": torch.full(SHAPE, int(handle.read(str(index))) / 10), "mask": torch.zeros(SHAPE).long()}


@pytest.fixture
def path(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for index in range(40):
            archive.writestr(str(index), str(index))
    return tmp_path / "a.zip"


OPTIONS = {
    "ratio": {"ratio": 0.25},
    "transforms": {"ratio": 0.25, "transform": dict, "real_transform": dict, "synthetic_transform": dict},
    "none": {"ratio": 0.0},
    "provenance": {"ratio": 0.25, "provenance": True},
    "match": {"ratio": 0.25, "match": {"mask": [0, 1] * 20}},
}


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "match"])
def test_wrapping_reads_nothing(path, name):
    real = Archive(path)
    mixed = SyntheticMixDataset(real, SOURCE, **OPTIONS[name])
    mixed.set_epoch(1)
    assert (len(mixed), mixed.real is real, real.handle, real.reads) == (40, True, None, 0)


def test_matching_reads_a_copy(path):
    class Labelled(Archive):
        def __getitem__(self, index):
            return super().__getitem__(index)["image"], index % 2

    real, synthetic = Labelled(path), Labelled(path)
    mixed = SyntheticMixDataset(real, synthetic, 0.5, fields=FIELDS, match="label")
    assert len(mixed.is_synthetic()) == 40
    for each in (real, synthetic):
        assert (each.handle, each.reads) == (None, 0)


def test_a_set_with_a_lock_is_copied_too(path):
    """It cannot be pickled, so only forked workers read it: with a handle that none of them shares."""

    class Locked(Archive):
        def __init__(self, path):
            super().__init__(path)
            self.lock, self.local, self.scale = threading.RLock(), threading.local(), lambda value: value

        def __getitem__(self, index):
            with self.lock:
                return super().__getitem__(index)

    real = Locked(path)
    RealFields(real, ["mask"])
    mixed = SyntheticMixDataset(real, SOURCE, ratio=0.25)
    mixed.is_synthetic()
    look_at(real, 3)
    assert (real.handle, real.reads) == (None, 0)
    assert own_copy(real).lock is not real.lock
    real[0]
    with contextlib.closing(real.handle):
        assert own_copy(real) is real, "an open handle is neither moved nor closed by a copy"


OPENED: weakref.WeakSet = weakref.WeakSet()


class Handle:
    """One that LMDB would refuse to open twice in a process."""

    def __init__(self):
        assert len(OPENED) == 0
        OPENED.add(self)


class OpenedOnce(Dataset):
    def __init__(self):
        self.handle = None

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.handle = self.handle or Handle()
        image = torch.full(SHAPE, float(index))
        return {"image": image} if index % 2 else {"image": image, "mask": torch.zeros(SHAPE).long()}


def test_what_a_copy_opened_is_let_go():
    real = OpenedOnce()
    conditions = RealFields(real, ["image"])
    assert conditions.fingerprint
    filled = FillMissing(real, ToMask(), source="image", target="mask", field="mask")
    look_at(real, 0)
    assert len(OPENED) == 0
    assert len(filled[1]["image"]) == 1
    assert len(OPENED) == 1


@pytest.mark.parametrize("kind", [Archive, CachedArchive])
def test_forked_workers_open_their_own_file(path, kind):
    mixed = SyntheticMixDataset(kind(path), SOURCE, ratio=0.25)
    flags = torch.from_numpy(mixed.is_synthetic())
    batches = DataLoader(mixed, 4, num_workers=2, multiprocessing_context="fork")
    images = torch.cat([batch["image"] for batch in batches])
    assert torch.equal(images[~flags][:, 0, 0, 0], torch.arange(40)[~flags] / 10)


def test_a_spawned_worker_gets_it_unopened(path):
    mixed = SyntheticMixDataset(Archive(path), SOURCE, ratio=0.25)
    assert sum(len(b["image"]) for b in DataLoader(mixed, 4, num_workers=1, multiprocessing_context="spawn")) == 40


def test_conditions_and_fillings_read_copies(path):
    real = Archive(path)
    RealFields(real, ["mask"])(range(50))

    class Incomplete(Archive):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return sample if index % 2 else {"image": sample["image"]}

    other = Incomplete(path)
    filled = FillMissing(other, ToMask(), source="image", target="mask", field="mask")
    assert (real.handle, real.reads, other.handle, other.reads) == (None, 0, None, 0)
    filled[0]
    filled[1]
    assert other.reads == 2, "a sample is read once, filled or not"


class ToMask:
    fields = {"mask": AnalyticSynthesizer((8, 8)).fields["mask"]}  # noqa: RUF012
    fingerprint = "f" * 64

    def synthesize(self, seeds, conditions=None):
        return {"mask": (conditions["source"] > 0.5).long()}


class Drawing(Dataset):
    """Random samples, from every generator."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.rand(SHAPE) + float(np.random.rand()) + random.random(), index


def test_wrapping_draws_no_random_numbers():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    expected = [Drawing()[index][0] for index in range(3)]
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    mixed = SyntheticMixDataset(Drawing(), SYNTHETIC, 0.25, fields=FIELDS)
    control = SyntheticMixDataset(Drawing(), SYNTHETIC, 0.0, fields=FIELDS)
    assert mixed.layout.names == FIELDS
    assert all(torch.equal(control[index][0], expected[index]) for index in range(3))


class Stateful(Dataset):
    """torchdata's protocol."""

    def __init__(self):
        self.position = 0

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.position += 1
        return torch.full(SHAPE, float(self.position)), index

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


def test_the_state_of_the_real_set_is_kept_with_that_of_the_mix():
    mixed = SyntheticMixDataset(Stateful(), SYNTHETIC, 0.0, fields=FIELDS)
    [mixed[index] for index in range(3)]
    again = SyntheticMixDataset(Stateful(), SYNTHETIC, 0.0, fields=FIELDS)
    again.load_state_dict(mixed.state_dict())
    assert torch.equal(again[3][0], mixed[3][0])
    assert float(again[4][0].mean()) == 5


@pytest.mark.parametrize(
    "real", [range(8), np.arange(8.0), torch.arange(8), ["a"] * 8, [None] * 8, [{"a": {"b": 1}}] * 8]
)
def test_without_synthetic_samples_any_sample_and_index_pass(real):
    mixed = SyntheticMixDataset(real, [], ratio=0.0)
    for index in (3, -1, np.int64(2)):
        assert mixed[index] is real[index] or mixed[index] == real[index]
    assert len(DataLoader(mixed, batch_size=2)) == 4


def test_bare_numbers_and_arrays_are_samples():
    for real, synthetic in (
        (range(8), [100]),
        ([1.5] * 8, [7.5]),
        (np.full((8, 4, 4), 0.9, np.float32), torch.full((2, 4, 4), 0.9)),
        (torch.zeros(8, 3), [np.ones(3, np.float32)]),
    ):
        mixed = SyntheticMixDataset(real, synthetic, ratio=0.5, fields=("value",))
        flags = mixed.is_synthetic()
        for index in range(8):
            assert type(mixed[index]) is type(real[0])
            assert np.array_equal(mixed[index], np.asarray(synthetic[0] if flags[index] else real[index]))


@pytest.mark.parametrize("index", [1.7, "3", slice(2), [1, 2], True, None, np.float32(1)])
def test_an_index_that_is_no_integer_is_named(index):
    mixed = SyntheticMixDataset([(torch.zeros(SHAPE), 1)] * 8, SYNTHETIC, 0.5, fields=FIELDS)
    with pytest.raises(SampleIndexError, match="`index` must be an integer, got"):
        mixed[index]
    if index is not True:
        with pytest.raises(SampleIndexError, match="must be an integer"):
            mixed.__getitems__([index])


@pytest.mark.parametrize("index", [torch.tensor(3), np.int32(3), np.array(3)])
def test_integers_of_other_types_are_indices(index):
    mixed = SyntheticMixDataset([(torch.zeros(SHAPE), k) for k in range(8)], SYNTHETIC, 0.5, fields=FIELDS)
    assert mixed[index][1] == mixed[3][1] == mixed.__getitems__([index])[0][1]


def test_a_mix_inside_another_data_set_is_no_real_data():
    inner = SyntheticMixDataset([(torch.zeros(SHAPE), 1)] * 8, SYNTHETIC, 0.5, fields=FIELDS)
    for wrapped in (Subset(inner, [0, 1]), torch.utils.data.ConcatDataset([inner]), Subset(Subset(inner, [0]), [0])):
        with pytest.raises(ConfigurationError, match=r"got a SyntheticMixDataset inside a \w+.*CombinedSource"):
            SyntheticMixDataset(wrapped, SYNTHETIC, 0.5, fields=FIELDS)


def test_a_copy_shares_arrays_and_long_lists_but_no_handles():
    class Local:
        def __init__(self):
            self.array, self.files, self.cache, self.function = np.zeros(5), list("ab") * 5000, {}, lambda x: x

        def __len__(self):
            return 2

        def __getitem__(self, index):
            self.cache[index] = self.array
            return index

    mine = Local()
    copy = own_copy(mine)
    assert copy is not mine
    assert copy.array is mine.array
    assert copy.files is mine.files
    copy[1]
    assert mine.cache == {}
    mine.lock = threading.Lock()
    assert own_copy(mine).lock is not mine.lock
    mine.running = (number for number in range(3))
    assert own_copy(mine) is mine, "what cannot be copied is read itself"
    reader = OwnCopy(Local())
    assert reader[1] == 1
    assert reader.dataset.cache == {}


TORCHIO = [
    tio.RandomAffine(),
    tio.RandomElasticDeformation(max_displacement=(1, 1, 0), locked_borders=0, num_control_points=5),
    tio.Compose([tio.RandomGamma(), tio.OneOf([tio.RandomBlur(), tio.RandomBiasField()])]),
    tio.RandomGhosting(),
    tio.RandomSpike(),
    tio.RandomSwap((2, 2, 1)),
    tio.RandomFlip(axes=(0, 1)),
    tio.RandomNoise(),
    tio.Compose([tio.OneOf([tio.RandomNoise()])]),
]


class OfAUser(tio.RandomNoise):
    """Nobody knows what it calls."""


def in_a_thread(function):
    """What the function returns there, as in a pool, while the training loop may draw; the exception that it raises."""
    results = []

    def run():
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def only_flips(sample):
    return {"image": sample["image"].flip(-1) + torch.rand_like(sample["image"]) + torch.randint(9, (1,))}


def draws_from_numpy(sample):
    return {"image": sample["image"] + np.random.rand()}


def sequence_of(transform):
    originals = RealFields([{"image": torch.linspace(k, k + 1, 64).reshape(SHAPE)} for k in range(8)], ["image"])
    return SyntheticSequence(TransformedSynthesizer(transform, originals, fingerprint="1"), originals)


@pytest.mark.parametrize("transform", [*TORCHIO, only_flips], ids=lambda one: getattr(one, "name", "function"))
def test_a_transform_in_a_thread_keeps_off_the_global_generators(transform):
    sequence = sequence_of(transform)
    expected = sequence.batch(range(8))["image"]
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    made = in_a_thread(lambda: sequence.batch(range(8))["image"])
    assert torch.equal(made, expected), "and draws the same numbers there"
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (str(np.random.get_state()), random.getstate()) == states[1:]


@pytest.mark.parametrize("transform", [OfAUser(), tio.Compose([OfAUser()]), draws_from_numpy])
def test_a_transform_that_cannot_is_refused_in_a_thread(transform):
    sequence = sequence_of(transform)
    sequence.batch([0])
    error = in_a_thread(lambda: sequence.batch([1]))
    assert isinstance(error, ConfigurationError)
    assert "background='process'" in str(error)


def test_the_advised_ways_work():
    sequence = sequence_of(OfAUser())
    expected = sequence.batch(range(4))["image"]
    for background in (False, "process"):
        with SyntheticPool(sequence, 4, batch_size=4, background=background) as pool:
            pool.set_epoch(0)
            assert torch.allclose(pool.read(np.arange(4))["image"], expected)


def test_looking_leaves_the_attributes_of_a_data_set_as_they_are():
    class Shared:
        def __init__(self, state):
            self.__dict__ = state  # which others hold, too

        def __getitem__(self, index):
            return self.images[index], self.label

    class Plain:
        def __init__(self):
            self.images, self.label = torch.rand(4, 1), 1

        def __getitem__(self, index):
            return self.images[index], self.label

    state = {"images": torch.rand(4, 1), "label": 1}
    shared, plain = Shared(state), Plain()
    images = plain.images
    for dataset in (shared, plain):
        look_at(dataset, 0)
    assert shared.__dict__ is state
    assert vars(plain) == {"images": images, "label": 1}
    assert plain.images is images
    plain.label = 2
    assert look_at(plain, 0)[1] == 2
