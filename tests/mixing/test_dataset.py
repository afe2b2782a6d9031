from __future__ import annotations

import pickle
import traceback
from collections import namedtuple

import numpy as np
import pytest
import torch
import torchio as tio
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset, TensorDataset

from torchgenaug.errors import (
    ConfigurationError,
    EmptyDatasetError,
    FieldMismatchError,
    IntensityMismatchWarning,
    RepeatedEpochWarning,
    SampleIndexError,
    StateMismatchError,
)
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

SIDE = 12
RAMP = torch.linspace(0, 1, SIDE * SIDE).reshape(1, SIDE, SIDE)
MOVE = tio.RandomAffine(
    scales=(0.9, 1.1, 0.9, 1.1, 1, 1), degrees=(0, 0, 0, 0, -20, 20), translation=(-2, 2, -2, 2, 0, 0)
)
Pair = namedtuple("Pair", ["image", "mask"])


class Real:
    """Slices whose every pixel says which sample it is: image = index / 100, mask = index % 2."""

    def __init__(self, size=20, kind="dict"):
        self.kind = kind
        self.samples = [self.make(index) for index in range(size)]

    def make(self, index):
        image = torch.full((1, SIDE, SIDE), index / 100)
        image[:, 3:6, 3:8] += 0.3
        mask = torch.full((1, SIDE, SIDE), index % 2)
        match self.kind:
            case "dict":
                return {"image": image, "mask": mask}
            case "tuple":
                return image, mask
            case "list":
                return [image, mask]
            case "namedtuple":
                return Pair(image, mask)
            case "tensor":
                return image
            case "numpy":
                return {"image": image.numpy(), "mask": mask.numpy()}
            case "subject":
                affine = np.diag([3.0, 3.0, 1.0, 1.0])
                return tio.Subject(
                    image=tio.ScalarImage(tensor=image[..., None], affine=affine),
                    mask=tio.LabelMap(tensor=mask[..., None], affine=affine),
                )

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


class Labels:
    fingerprint = "a" * 64

    def __call__(self, ids):
        return {"label": torch.tensor([k % 4 for k in ids])}


KINDS = ["dict", "tuple", "list", "namedtuple", "tensor", "numpy", "subject"]
FIELDS = {"tuple": ("image", "mask"), "list": ("image", "mask")}


def source(count=16, num_classes=None):
    synthesizer = AnalyticSynthesizer((SIDE, SIDE), num_classes=num_classes)
    conditions = None if num_classes is None else Labels()
    return InMemorySource(SyntheticSequence(synthesizer, conditions), count)


def image_of(sample, kind):
    match kind:
        case "dict" | "numpy":
            return torch.as_tensor(sample["image"])
        case "tensor":
            return sample
        case "subject":
            return sample.image.data[..., 0]
    return sample[0]


class Classified:
    """(image, label) samples sorted by class: the label is an int."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return RAMP, index // 10


@pytest.mark.parametrize("kind", KINDS)
def test_synthetic_samples_come_in_the_real_type(kind):
    real = Real(kind=kind)
    mixed = SyntheticMixDataset(real, source(), ratio=0.5, fields=FIELDS.get(kind))
    flags = mixed.is_synthetic()
    assert flags.sum() == 10
    for index, flag in enumerate(flags):
        sample = mixed[index]
        assert type(sample) is type(real[0])
        if flag:
            assert image_of(sample, kind).shape == (1, SIDE, SIDE)
            assert image_of(sample, kind).dtype == torch.float32
        else:
            assert sample is real[index]
    if kind == "numpy":
        assert isinstance(mixed[int(np.flatnonzero(flags)[0])]["mask"], np.ndarray)
    if kind == "subject":
        made = mixed[int(np.flatnonzero(flags)[0])]
        assert isinstance(made.image, tio.ScalarImage)
        assert isinstance(made.mask, tio.LabelMap)
        assert made.mask.data.dtype == torch.int64
        assert made.spacing == real[0].spacing == (3.0, 3.0, 1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["replace", "extend"])
def test_ratio_0_returns_the_very_objects(kind, mode):
    real = Real(kind=kind)
    mixed = SyntheticMixDataset(real, source(), ratio=0.0, mode=mode, fields=FIELDS.get(kind))
    assert len(mixed) == len(real)
    assert all(mixed[index] is real[index] for index in range(len(real)))
    assert all(a is b for a, b in zip(mixed.__getitems__([3, 1]), [real[3], real[1]], strict=True))


def test_scalars_come_in_the_real_type():
    mixed = SyntheticMixDataset(Classified(), source(num_classes=4), ratio=0.5, fields=("image", "label"))
    assert all(type(mixed[index][1]) is int for index in range(40))


@pytest.mark.parametrize("scalar", [np.int64, np.float32, float])
def test_more_scalars(scalar):
    real = [(RAMP, scalar(k % 2)) for k in range(8)]
    mixed = SyntheticMixDataset(real, source(num_classes=4), ratio=1.0, fields=("image", "label"))
    assert type(mixed[0][1]) is scalar


@settings(max_examples=25)
@given(
    st.sampled_from(["replace", "extend"]),
    st.floats(0.0, 0.9),
    st.integers(0, 4),
    st.permutations(range(20)),
    st.integers(1, 7),
)
def test_a_sample_is_a_function_of_seed_epoch_and_index(mode, ratio, epoch, order, batch_size):
    """Law 2, in one process: any order, any batch size, transforms included."""
    real, synthetic = REAL_AND_SOURCE
    mixed = SyntheticMixDataset(real, synthetic, ratio, mode=mode, seed=9, transform=MOVE)
    mixed.set_epoch(epoch)
    expected = [mixed[index] for index in range(20)]
    mixed.set_epoch(0)
    mixed[3]
    mixed.set_epoch(epoch)
    for start in range(0, 20, batch_size):
        indices = order[start : start + batch_size]
        for index, sample in zip(indices, mixed.__getitems__(indices), strict=True):
            assert torch.equal(sample["image"], expected[index]["image"])
            assert torch.equal(sample["mask"], expected[index]["mask"])


REAL_AND_SOURCE = (Real(), source())


def _epoch_through_a_loader(mixed, batch_size, workers, method, rank=0, world_size=1):
    order = list(range(rank, len(mixed), world_size))
    loader = DataLoader(
        Subset(mixed, order), batch_size, num_workers=workers, multiprocessing_context=method if workers else None
    )
    images, masks, flags, seeds = [], [], [], []
    for batch in loader:
        images.append(batch["image"])
        masks.append(batch["mask"])
        flags += batch["provenance"]["is_synthetic"].tolist()
        seeds += batch["provenance"]["seed"]
    return order, torch.cat(images), torch.cat(masks), flags, seeds


@pytest.mark.parametrize(
    ("workers", "method", "batch_size", "world_size"),
    [(1, "fork", 1, 1), (2, "fork", 7, 2), (4, "fork", 4, 3), (1, "spawn", 4, 1), (0, None, 7, 8)],
)
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
def test_topology(request, workers, method, batch_size, world_size):
    if method == "spawn":
        request.getfixturevalue("really_spawned")
    """Law 2: workers, start method, batch size and ranks change nothing, random transforms included."""
    mixed = SyntheticMixDataset(Real(), source(), 0.4, transform=MOVE, provenance=True, seed=5)
    mixed.set_epoch(2)
    _, images, masks, flags, seeds = _epoch_through_a_loader(mixed, 20, 0, None)
    for rank in range(world_size):
        order, *got = _epoch_through_a_loader(mixed, batch_size, workers, method, rank, world_size)
        assert torch.equal(got[0], images[order])
        assert torch.equal(got[1], masks[order])
        assert got[2] == [flags[index] for index in order]
        assert got[3] == [seeds[index] for index in order]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_persistent_workers_see_the_epoch_change(method):
    mixed = SyntheticMixDataset(Real(), source(), 0.4, transform=MOVE)
    workers = 2 if method == "fork" else 1  # each spawned one imports torch
    loader = DataLoader(mixed, 5, num_workers=workers, persistent_workers=True, multiprocessing_context=method)
    epochs = []
    for epoch in range(3):
        mixed.set_epoch(epoch)
        epochs.append(torch.cat([batch["image"] for batch in loader]))
        assert torch.equal(epochs[-1], torch.stack([mixed[index]["image"] for index in range(20)]))
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])


def test_shuffled_loader_sees_every_index_once():
    mixed = SyntheticMixDataset(Real(), source(), 0.25, mode="extend", provenance=True)
    loader = DataLoader(mixed, 6, shuffle=True, generator=torch.Generator().manual_seed(0))
    batches = [batch["provenance"] for batch in loader]
    real = sorted(torch.cat([batch["index"][~batch["is_synthetic"]] for batch in batches]).tolist())
    assert real == list(range(20))
    assert sum(int(batch["is_synthetic"].sum()) for batch in batches) == mixed.counts().synthetic == 7


def test_image_and_mask_move_together():
    real = Real()
    for sample in real.samples:
        sample["mask"] = (sample["image"] > sample["image"].min() + 0.1).long()
    mixed = SyntheticMixDataset(real, source(), 0.0, transform=MOVE)
    moved = mixed[0]
    assert moved["mask"].dtype == torch.int64
    assert not torch.equal(moved["mask"], real[0]["mask"])
    bright = moved["image"] > 0.15
    assert (bright != moved["mask"].bool()).float().mean() < 0.06


def test_side_transforms_touch_their_side_only():
    mixed = SyntheticMixDataset(
        Real(), source(), 0.5, real_transform=_plus_ten, synthetic_transform=_plus_ten_and_an_eighth, transform=_negated
    )
    plain = SyntheticMixDataset(Real(), source(), 0.5)
    for index, flag in enumerate(mixed.is_synthetic()):
        assert torch.equal(mixed[index]["image"], -(plain[index]["image"] + (10.125 if flag else 10)))


def _plus_ten(sample):
    return {**sample, "image": sample["image"] + 10}


def _plus_ten_and_an_eighth(sample):
    return {**sample, "image": sample["image"] + 10.125}


def _negated(sample):
    return {**sample, "image": -sample["image"]}


def _random_everywhere(sample):
    import random

    noise = torch.rand(()).item() + np.random.rand() + random.random()
    return {**sample, "image": sample["image"] + noise}


def test_any_callable_is_seeded_and_global_generators_are_put_back():
    import random

    mixed = SyntheticMixDataset(Real(), source(), 0.5, transform=_random_everywhere)
    before = (torch.get_rng_state(), pickle.dumps(np.random.get_state()), random.getstate())
    first = mixed[7]["image"]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == pickle.dumps(np.random.get_state())
    assert before[2] == random.getstate()
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    assert torch.equal(first, mixed[7]["image"])
    mixed.set_epoch(1)
    assert not torch.equal(first, mixed[7]["image"])


def test_subjects_through_torchios_loader():
    mixed = SyntheticMixDataset(Real(kind="subject"), source(), 0.5, transform=MOVE, provenance=True)
    batch = next(iter(tio.SubjectsLoader(mixed, batch_size=20)))
    assert batch["image"]["data"].shape == (20, 1, SIDE, SIDE, 1)
    assert batch["mask"]["data"].dtype == torch.int64
    assert batch["provenance"]["is_synthetic"].tolist() == mixed.is_synthetic().tolist()


def test_3d_volumes():
    real = [
        {"image": torch.linspace(0, 1, 512).reshape(1, 8, 8, 8), "mask": torch.ones(1, 8, 8, 8).long()}
        for _ in range(4)
    ]
    made = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8, 8))), 4)
    mixed = SyntheticMixDataset(real, made, 0.5, transform=tio.RandomAffine())
    assert {tuple(mixed[index]["image"].shape) for index in range(4)} == {(1, 8, 8, 8)}


def test_match_keeps_the_class_balance():
    for match in ("label", {"label": [index // 10 for index in range(40)]}):
        mixed = SyntheticMixDataset(
            Classified(), source(num_classes=4), 0.5, fields=("image", "label"), match=match, transform=MOVE
        )
        for epoch in range(3):
            mixed.set_epoch(epoch)
            assert [mixed[index][1] for index in range(40)] == [index // 10 for index in range(40)]


def test_provenance_says_where_a_sample_comes_from():
    synthetic = source()
    for kind in ("dict", "tuple", "list", "tensor", "subject"):
        mixed = SyntheticMixDataset(Real(kind=kind), synthetic, 0.5, fields=FIELDS.get(kind), provenance=True)
        for index, flag in enumerate(mixed.is_synthetic()):
            sample = mixed[index]
            origin = sample["provenance"] if kind in ("dict", "subject") else sample[-1]
            assert origin["is_synthetic"] == flag
            if flag:
                assert origin["index"] == -1
                assert int(origin["seed"], 16) == int(synthetic.seeds(np.array([origin["id"]]))[0])
                assert origin["fingerprint"] == synthetic.fingerprint
                again = synthetic.read(np.array([origin["id"]]))["image"][0]
                assert torch.equal(image_of(sample[0] if kind == "tensor" else sample, kind), again)
            else:
                assert origin["index"] == index
                assert origin["id"] == -1


def test_provenance_of_a_namedtuple():
    with pytest.raises(ConfigurationError, match="`provenance` cannot be added to a NamedTuple"):
        SyntheticMixDataset(Real(kind="namedtuple").samples, source(), 0.5, provenance=True)


def test_any_map_style_data_set_is_a_source():
    real = TensorDataset(torch.rand(10, 1, 4, 4), torch.arange(10))
    synthetic = TensorDataset(torch.rand(3, 1, 4, 4), torch.arange(100, 103))
    mixed = SyntheticMixDataset(real, synthetic, 0.6, fields=("image", "label"), provenance=True)
    labels = [int(mixed[index][1]) for index in range(10)]
    assert sorted(label for label in labels if label >= 100) == [100, 100, 101, 101, 102, 102]
    assert [label for label in labels if label < 100] == np.flatnonzero(~mixed.is_synthetic()).tolist()


def test_batched_real_sets_are_read_in_batches():
    class Batched(Real):
        calls = []  # noqa: RUF012 (of this test alone)

        def __getitems__(self, indices):
            self.calls.append(indices)
            return [self.samples[index] for index in indices]

    mixed = SyntheticMixDataset(Batched(), source(), 0.5)
    flags = mixed.is_synthetic()
    mixed.__getitems__(range(20))
    assert Batched.calls[-1] == np.flatnonzero(~flags).tolist()


def test_batched_real_set_of_wrong_length():
    class Short(Real):
        def __getitems__(self, indices):
            return [self.samples[0]]

    with pytest.raises(FieldMismatchError, match="must return one sample per index, got 1 for"):
        SyntheticMixDataset(Short(), source(), 0.25).__getitems__([0, 1, 2, 3, 4])


def test_pickles_and_the_copy_keeps_its_own_epoch():
    mixed = SyntheticMixDataset(Real(), source(), 0.4, transform=MOVE)
    mixed.set_epoch(3)
    copy = pickle.loads(pickle.dumps(mixed))
    assert torch.equal(copy[4]["image"], mixed[4]["image"])
    copy.set_epoch(4)
    assert (mixed.epoch, copy.epoch) == (3, 4)


def test_state_round_trip_and_mismatch():
    mixed = SyntheticMixDataset(Real(), source(), 0.4, seed=3)
    mixed.set_epoch(2)
    again = SyntheticMixDataset(Real(), source(), 0.4, seed=3)
    again.load_state_dict(mixed.state_dict())
    assert again.epoch == 2
    for other in (
        SyntheticMixDataset(Real(), source(), 0.4, seed=4),
        SyntheticMixDataset(Real(), source(), 0.3, seed=3),
        SyntheticMixDataset(Real(19), source(), 0.4, seed=3),
        SyntheticMixDataset(Real(), source(15), 0.4, seed=3),
        SyntheticMixDataset(Real(), source(), 0.4, seed=3, mode="extend"),
    ):
        with pytest.raises(StateMismatchError, match="must come from the same mix"):
            other.load_state_dict(mixed.state_dict())


def test_ratio_schedule():
    mixed = SyntheticMixDataset(Real(), source(), _ramp)
    assert [mixed.counts(epoch).synthetic for epoch in range(4)] == [0, 5, 10, 10]
    mixed.set_epoch(1)
    assert mixed.is_synthetic().sum() == 5


def _ramp(epoch):
    return min(0.25 * epoch, 0.5)


def test_length_follows_the_epoch_in_extend():
    mixed = SyntheticMixDataset(Real(), source(), _ramp, mode="extend")
    assert len(mixed) == 20
    mixed.set_epoch(2)
    assert len(mixed) == 40
    assert sum(len(batch["image"]) for batch in DataLoader(mixed, 7, num_workers=2)) == 40


def test_fields_restrict_dicts_on_both_sides():
    class Named(Real):
        def __getitem__(self, index):
            return {**self.samples[index], "age": index / 2}

    with pytest.raises(FieldMismatchError, match=r"(?s)missing 'age'.*fields=\('image', 'mask'\)") as caught:
        SyntheticMixDataset(Named(), source(), 0.5).__getitems__(range(20))
    assert "surplus" not in str(caught.value)
    mixed = SyntheticMixDataset(Named(), source(), 0.5, fields=("image", "mask"))
    assert {tuple(mixed[index]) for index in range(20)} == {("image", "mask")}


def test_naming_the_real_fields_leaves_surplus_synthetic_ones_out():
    with pytest.raises(FieldMismatchError, match="surplus 'label'"):
        SyntheticMixDataset(Real().samples, source(num_classes=4), 0.5)
    mixed = SyntheticMixDataset(Real(), source(num_classes=4), 0.5, fields=("image", "mask"))
    assert {tuple(mixed[index]) for index in range(20)} == {("image", "mask")}


def test_all_differences_are_listed_at_once():
    real = [{"image": torch.zeros(3, 8, 8), "mask": torch.zeros(2, SIDE, SIDE).int(), "age": 3.0} for _ in range(4)]
    with pytest.raises(FieldMismatchError) as caught:
        SyntheticMixDataset(real, source(num_classes=4), 0.5)
    text = str(caught.value)
    for part in (
        "missing 'age'",
        "'image': real (3, 8, 8) torch.float32, synthetic (1, 12, 12) torch.float32",
        "'mask': real (2, 12, 12) torch.int32, synthetic (1, 12, 12) torch.int64",
        "surplus 'label'",
        "fields=('image', 'mask')",
        "synthetic_transform",
    ):
        assert part in text


def test_side_transforms_are_a_way_out():
    real = [{"image": torch.linspace(0, 1, 64).reshape(1, 8, 8), "mask": torch.zeros(1, 8, 8).int()} for _ in range(6)]
    mixed = SyntheticMixDataset(real, source(), 0.5, synthetic_transform=_shrunk)
    assert {(tuple(mixed[k]["image"].shape), mixed[k]["mask"].dtype) for k in range(6)} == {((1, 8, 8), torch.int32)}
    with pytest.raises(FieldMismatchError, match=r"real \(1, 8, 8\).* synthetic \(1, 12, 12\)"):
        SyntheticMixDataset(real, source(), 0.5, synthetic_transform=_same).__getitems__(range(6))


def _shrunk(sample):
    return {"image": sample["image"][:, :8, :8], "mask": sample["mask"][:, :8, :8].int()}


def _same(sample):
    return sample


def test_grossly_different_intensities_warn_once_with_both_ranges():
    bright = [{"image": sample["image"] * 255, "mask": sample["mask"]} for sample in Real().samples]
    with pytest.warns(IntensityMismatchWarning, match=r"real \[\d.*\], synthetic \[0\.\d+, .*RescaleIntensity") as seen:
        SyntheticMixDataset(bright, source(), 0.5).__getitems__(range(20))
    assert len(seen) == 1


def test_a_transform_that_would_leave_2d():
    with pytest.raises(ConfigurationError, match=r"must leave one slice.*tio.Resize\(\(64, 64, 1\)\)"):
        SyntheticMixDataset(Real(), source(), 0.0, transform=tio.Pad((0, 0, 0, 0, 1, 1)))[0]


def read(loader, times):
    for _ in range(times):
        list(loader)


def test_an_epoch_that_was_set_once_and_then_forgotten_is_noticed_once():
    """An explicit set_epoch stays until the next one: the same samples replaced, the same transforms."""
    mixed = SyntheticMixDataset(Real(), source(), 0.5)
    mixed.set_epoch(0)
    with pytest.warns(RepeatedEpochWarning, match=r"set_epoch\(epoch\) at the start of every epoch") as seen:
        read(DataLoader(mixed, 5), 9)
    assert len(seen) == 1


def test_an_epoch_that_is_read_again_by_hand_is_noticed():
    mixed = SyntheticMixDataset(Real(), source(), 0.5)
    indices = [index for _ in range(5) for index in range(len(mixed))]
    with pytest.warns(RepeatedEpochWarning, match="samples are read by hand, so that no pass can be seen"):
        _ = [mixed[index] for index in indices]


def test_a_repeated_epoch_is_noticed_in_workers():
    """Each worker sees what all have read; a warning is an error in these tests, and so reaches the training loop."""
    mixed = SyntheticMixDataset(Real(), source(), 0.5)
    mixed.set_epoch(0)
    loader = DataLoader(mixed, 5, num_workers=2)
    with pytest.raises(RepeatedEpochWarning, match="Epoch 0 was read more than 3 times") as caught:
        read(loader, 6)
    traceback.clear_frames(caught.tb)  # its iterator would wait ten seconds for the workers when it is collected


def test_no_warning_for_those_who_call_set_epoch():
    mixed = SyntheticMixDataset(Real(), source(), 0.5)
    for epoch in range(9):
        mixed.set_epoch(epoch)
        list(DataLoader(mixed, 5))


def test_a_pool_that_another_mix_moved_is_an_error_and_not_a_wrong_sample():
    with SyntheticPool(source_sequence(), 16, refresh=0.5, batch_size=4, background=False) as pool:
        one = SyntheticMixDataset(Real(), pool, 0.5)
        other = SyntheticMixDataset(Real(), pool, 0.5, seed=1)
        other.set_epoch(1)
        other[0]
        with pytest.raises(StateMismatchError, match=r"must be at the epoch of the mix, 0, got 1.*a pool of its own"):
            one.__getitems__(range(20))
        control = SyntheticMixDataset(Real(), pool, 0.0, transform=_negated)
        pool.set_epoch(2)
        control[0]  # draws nothing from the pool
        pool.set_epoch(1)
        rebuilt = SyntheticMixDataset(Real(), pool, 0.5, seed=1)
        assert rebuilt.epoch == 1, "a mix that is built over a pool in use follows it"
        assert torch.equal(rebuilt[3]["image"], other[3]["image"])


def source_sequence():
    return SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE)))


def test_the_epoch_reaches_the_data_sets_inside():
    class Moving(Real):
        epoch_seen = None

        def set_epoch(self, epoch):
            self.epoch_seen = epoch

    real, synthetic = Moving(), Moving()
    SyntheticMixDataset(real, synthetic, 0.5).set_epoch(4)
    assert (real.epoch_seen, synthetic.epoch_seen) == (4, 4)


@pytest.mark.parametrize("side", ["transform", "real_transform", "synthetic_transform"])
def test_transforms_are_drawn_anew_each_epoch(side):
    """The sample itself stays the same here (all real, or one synthetic sample only): what changes is the draw."""
    ratio, synthetic = (1.0, source(1)) if side == "synthetic_transform" else (0.0, source())
    mixed = SyntheticMixDataset(Real(), synthetic, ratio, **{side: MOVE})
    first = mixed[7]["image"]
    mixed.set_epoch(1)
    assert not torch.equal(first, mixed[7]["image"])
    mixed.set_epoch(0)
    assert torch.equal(first, mixed[7]["image"])


def test_a_mix_of_a_mix_is_refused():
    with pytest.raises(ConfigurationError, match=r"got a SyntheticMixDataset.*CombinedSource"):
        SyntheticMixDataset(SyntheticMixDataset(Real(), source(), 0.5), source(), 0.5)


def test_a_schedule_that_starts_at_0_is_checked_at_once():
    with pytest.raises(FieldMismatchError, match="none of class"):
        SyntheticMixDataset(Classified(), [(RAMP, 0)] * 8, _ramp, fields=("image", "label"), match="label")


def test_numpy_sets_are_compared_too():
    real = [{"image": RAMP.numpy()}] * 8
    with pytest.raises(
        FieldMismatchError, match=r"real \(1, 12, 12\) torch.float32, synthetic \(1, 6, 12\) torch.float64"
    ):
        SyntheticMixDataset(real, [{"image": RAMP[:, :6].double().numpy()}] * 4, 0.5)


def test_surplus_of_a_map_style_set():
    real, synthetic = [{"image": RAMP}] * 8, [{"image": RAMP, "extra": "x"}] * 4
    with pytest.raises(FieldMismatchError, match=r"surplus 'extra': leave it out with fields=\('image',\)"):
        SyntheticMixDataset(real, synthetic, 0.5)
    mixed = SyntheticMixDataset(real, synthetic, 0.5, fields=("image",))
    assert {tuple(mixed[index]) for index in range(8)} == {("image",)}


def test_transforms_make_a_map_style_set_fit():
    small = [{"image": RAMP[:, :6, :6]}] * 4
    mixed = SyntheticMixDataset([{"image": RAMP}] * 8, small, 0.5, synthetic_transform=tio.Resize((SIDE, SIDE, 1)))
    assert {tuple(mixed[index]["image"].shape) for index in range(8)} == {(1, SIDE, SIDE)}


@pytest.mark.parametrize(
    ("match", "message"),
    [({"lable": [0] * 40}, "`match` must name a field"), ({"label": [0.5] * 40}, "whole numbers, got 0.5 in 'label'")],
)
def test_labels_to_match_must_be_classes(match, message):
    with pytest.raises(ConfigurationError, match=message):
        SyntheticMixDataset(Classified(), source(num_classes=4), 0.5, fields=("image", "label"), match=match)


def test_a_float_label_does_not_become_an_int():
    class Ages(Labels):
        def __call__(self, ids):
            return {"label": torch.tensor([k + 0.7 for k in ids])}

    made = InMemorySource(SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE)), Ages()), 4)
    with pytest.raises(FieldMismatchError, match=r"'label': real is one int, synthetic \(\) torch.float32"):
        SyntheticMixDataset(Classified(), made, 0.5, fields=("image", "label")).__getitems__(range(40))


@pytest.mark.parametrize(
    ("synthetic", "message"),
    [
        (AnalyticSynthesizer(), "got a synthesizer.*SyntheticPool"),
        ("shards", r"got the path 'shards'.*ShardSource\('shards'\)"),
        (torch.nn.Linear(1, 1), "got the network Linear.*ModuleSynthesizer"),
    ],
)
def test_what_a_hurried_person_passes(synthetic, message):
    with pytest.raises(ConfigurationError, match=message):
        SyntheticMixDataset(Real(), synthetic)


def test_fields_as_a_string():
    with pytest.raises(ConfigurationError, match="must be a sequence of names, got the string 'image'"):
        SyntheticMixDataset(Real(), source(), fields="image")


def test_kinds_of_map_style_sets_follow_class_and_name():
    """A uint8 image gets noise; a float mask does not."""
    real = [{"image": (RAMP * 255).to(torch.uint8), "mask": (RAMP > 0.5).float()} for _ in range(4)]
    sample = SyntheticMixDataset(real, real, 0.5, transform=tio.RandomNoise(std=(5, 5)))[0]
    assert not torch.equal(sample["image"].float(), real[0]["image"].float())
    assert torch.equal(sample["mask"], real[0]["mask"])


@pytest.mark.parametrize("index", [20, -21])
def test_index_outside(index):
    with pytest.raises(SampleIndexError, match=rf"`index` must be in \[-20, 20\), got {index}"):
        SyntheticMixDataset(Real(), source(), 0.5)[index]


def test_negative_indices_count_from_the_end():
    mixed = SyntheticMixDataset(Real(), source(), 0.5, transform=MOVE)
    assert torch.equal(mixed[-1]["image"], mixed[19]["image"])


def test_bad_arguments():
    synthetic = source()
    with pytest.raises(EmptyDatasetError, match="`real` is empty"):
        SyntheticMixDataset([], synthetic)
    with pytest.raises(EmptyDatasetError, match="synthetic source is empty"):
        SyntheticMixDataset(Real(), [])
    with pytest.raises(ConfigurationError, match=r"`fields` must name the 2 positions.*fields=\('image', 'label'\)"):
        SyntheticMixDataset(Real(kind="tuple").samples, synthetic)
    with pytest.raises(ConfigurationError, match=r"`fields` must name the 2 position.*got \('image',\)"):
        SyntheticMixDataset(Real(kind="tuple").samples, synthetic, fields=("image",))
    with pytest.raises(ConfigurationError, match=r"`fields` must name fields of the real samples .*got \['img'\]"):
        SyntheticMixDataset(Real().samples, synthetic, fields=("img",))
    with pytest.raises(ConfigurationError, match="must be distinct names"):
        SyntheticMixDataset(Real(), synthetic, fields=("image", "image"))
    with pytest.raises(ConfigurationError, match=r"`real` must be a map-style data set.*got list_iterator"):
        SyntheticMixDataset(iter([1]), synthetic)
    with pytest.raises(ConfigurationError, match=r"got a SyntheticSequence.*SyntheticPool\(sequence, capacity=256\)"):
        SyntheticMixDataset(Real(), SyntheticSequence(AnalyticSynthesizer()))
    with pytest.raises(ConfigurationError, match="`match` must name a field"):
        SyntheticMixDataset(Real(), synthetic, match="label")
    with pytest.raises(ConfigurationError, match="A transform must be a function"):
        SyntheticMixDataset(Real(), synthetic, transform=3)
    with pytest.raises(FieldMismatchError, match="real is of type str, which cannot be made from a tensor"):
        SyntheticMixDataset(["a", "b"], synthetic, 1.0)
    with pytest.raises(ConfigurationError, match="`epoch` must be"):
        SyntheticMixDataset(Real(), synthetic).set_epoch(-1)


def test_a_failing_real_sample_is_reported_with_its_index():
    class Broken(Real):
        def __getitem__(self, index):
            if index == 13:
                raise OSError("truncated file")
            return self.samples[index]

    mixed = SyntheticMixDataset(Broken(), source(), 0.0)
    with pytest.raises(OSError, match="truncated file") as caught:
        mixed.__getitems__([12, 13])
    assert "real sample 13" in caught.value.__notes__[0]


class Score:
    """A ratio that training changes: persistent workers have the object as it was when they started."""

    value = 0.5

    def __call__(self, epoch):
        return self.value


def test_workers_see_the_ratio_that_the_training_loop_sees():
    ratio = Score()
    mixed = SyntheticMixDataset(Real(), source(), ratio, provenance=True)
    loader = DataLoader(mixed, 5, num_workers=1, persistent_workers=True, multiprocessing_context="fork")
    for epoch, value in enumerate((0.5, 0.9, 0.2)):
        ratio.value = value
        mixed.set_epoch(epoch)
        made = sum(int(batch["provenance"]["is_synthetic"].sum()) for batch in loader)
        assert made == mixed.counts().synthetic == round(20 * value)
    ratio.value = 1.0
    assert [mixed.counts(epoch).synthetic for epoch in range(4)] == [10, 18, 4, 20]
    again = SyntheticMixDataset(Real(), source(), ratio)
    with pytest.warns(UserWarning, match="gives 20 synthetic samples in epoch 0, where the saved run drew 10"):
        again.load_state_dict(mixed.state_dict())
    assert [again.counts(epoch).synthetic for epoch in range(3)] == [10, 18, 4]
