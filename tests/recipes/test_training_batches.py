"""Training batches are a function of (seed, step), use every sample equally often, and map ranges to [-1, 1]."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.batches import (
    TrainingBatches,
    from_symmetric,
    to_symmetric,
    training_batches,
)
from torchgenaug.recipes.data.training_data import TensorSamples, TrainingData
from torchgenaug.types import FieldSpec


def numbered(size: int, spatial: tuple[int, ...] = (8, 8)) -> TrainingData:
    """Sample k is an image of a blob with k in its label; the mask is where the image is above half."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((size, 1, *spatial), generator=generator) * 100 + 50
    return TrainingData(
        samples=TensorSamples(
            {"image": images, "mask": (images > 100).long(), "label": torch.arange(size), "source": 200 - images}
        ),
        fields={
            "image": FieldSpec((1, *spatial), value_range=(50, 150)),
            "mask": FieldSpec((1, *spatial), torch.int64, kind="label_map", value_range=(0, 1)),
            "label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, max(1, size - 1))),
            "source": FieldSpec((1, *spatial), value_range=(50, 150)),
        },
        ids=tuple(map(str, range(size))),
        name="numbered",
    )


def take(batches, count):
    return list(itertools.islice(batches, count))


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        assert all(torch.equal(batch[name], other[name]) for name in batch)


@settings(deadline=None, max_examples=15)
@given(size=st.integers(1, 11), batch_size=st.integers(1, 13), seed=st.integers(0, 5), first=st.integers(0, 9))
def test_batches_from_any_step_are_those_after_skipping(size, batch_size, seed, first):
    data = numbered(size)
    whole = take(training_batches(data, batch_size, seed=seed), first + 3)
    assert_equal(take(training_batches(data, batch_size, seed=seed, first_step=first), 3), whole[first:])


@settings(deadline=None, max_examples=15)
@given(size=st.integers(1, 11), batch_size=st.integers(1, 13), world_size=st.integers(1, 3))
def test_every_sample_is_used_equally_often(size, batch_size, world_size):
    """Over lcm(size, batch) samples exactly, and at any moment within one."""
    data = numbered(size)
    ranks = [training_batches(data, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    seen: Counter[int] = Counter(dict.fromkeys(range(size), 0))
    for _ in range(size):
        for rank in ranks:
            seen.update(next(rank)["label"].tolist())
        assert max(seen.values()) - min(seen.values()) <= 1
    assert len(set(seen.values())) == 1


def test_orders_differ_between_epochs_and_seeds():
    data = numbered(20)
    orders = [
        tuple(batch["label"].tolist()) for seed in (0, 1) for batch in take(training_batches(data, 20, seed=seed), 3)
    ]
    assert len(set(orders)) == 6


def test_ranges_are_mapped_and_fields_keep_their_kind():
    data = numbered(5)
    batch = next(training_batches(data, 4))
    row = batch["label"][2]
    assert torch.allclose(batch["image"][2], (data.samples[row]["image"] - 100) / 50)
    assert torch.allclose(batch["source"], -batch["image"], atol=1e-6)
    assert torch.equal(batch["mask"], (batch["image"] > 0).long())
    assert batch["label"].dtype == batch["mask"].dtype == torch.int64
    assert torch.allclose(from_symmetric(batch["image"][2], data.fields["image"]), data.samples[row]["image"])


def test_values_outside_the_range_are_cut():
    spec = FieldSpec((1,), value_range=(0, 10))
    assert to_symmetric(torch.tensor([-1.0, 5.0, 12.0]), spec).tolist() == [-1, 0, 1]
    assert from_symmetric(torch.tensor([-2.0, 0.0, 1.5]), spec).tolist() == [0, 5, 10]


@pytest.mark.parametrize("spatial", [(16, 24), (8, 16, 8)])
def test_augmentation_moves_image_mask_and_source_together_and_is_exact(spatial):
    data = numbered(3, spatial)
    whole = take(training_batches(data, 2, augment=True), 4)
    assert_equal(take(training_batches(data, 2, augment=True, first_step=2), 2), whole[2:])
    assert not torch.equal(whole[0]["image"], next(training_batches(data, 2))["image"])
    batch = whole[0]
    assert batch["image"].shape == (2, 1, *spatial)
    assert batch["mask"].dtype == torch.int64
    assert torch.allclose(batch["source"], -batch["image"], atol=1e-3)
    # Linear and nearest-neighbour interpolation agree on the side of one half in most, not all, pixels.
    assert ((batch["image"] > 0) == (batch["mask"] > 0)).float().mean() > 0.7


def test_augmentation_brings_in_no_dark_wedges():
    """A bright constant image stays one: what is turned in from outside is a reflection."""
    data = numbered(1, (16, 16))
    bright = TrainingData(
        TensorSamples({"image": torch.full((1, 1, 16, 16), 140.0)}), {"image": data.fields["image"]}, ("a",), "bright"
    )
    for batch in take(training_batches(bright, 1, augment=True), 10):
        assert batch["image"].min() > 0.79


def test_augmentation_differs_between_epochs():
    data = numbered(1, (16, 16))
    first, second = take(training_batches(data, 1, augment=True), 2)
    assert not torch.equal(first["image"], second["image"])


def test_workers_give_the_same_batches_and_leave_the_global_generator_alone():
    data = numbered(5)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    batches = training_batches(data, 2, augment=True, first_step=1, workers=2)
    assert_equal(take(batches, 5), take(training_batches(data, 2, augment=True, first_step=1), 5))
    assert torch.equal(torch.get_rng_state(), state)


def test_batches_are_picklable():
    batches = TrainingBatches(numbered(3), 2, augment=True)
    assert_equal([pickle.loads(pickle.dumps(batches))[4]], [batches[4]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"batch_size": 2, "rank": 2, "world_size": 2}, "`rank` must be in"),
        ({"batch_size": 2, "first_step": -1}, "`first_step` and `workers` must not be negative"),
        ({"batch_size": 2, "workers": -1}, "`first_step` and `workers` must not be negative"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        training_batches(numbered(3), **settings)


def test_a_field_without_range_cannot_be_mapped():
    with pytest.raises(ConfigurationError, match="must have a value range"):
        to_symmetric(torch.zeros(1), FieldSpec((1,)))


def test_balanced_batches_show_every_class_equally_often():
    data = numbered(8)
    data.samples.columns["label"] = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2])
    batches = TrainingBatches(data, 5, balance=True)
    epochs = [torch.cat([batches[3 * epoch + k]["label"] for k in range(3)]).tolist() for epoch in range(2)]
    assert all(Counter(epoch) == {0: 5, 1: 5, 2: 5} for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert torch.equal(TrainingBatches(data, 5, balance=True)[4]["image"], batches[4]["image"])
    unlabelled = data.exchanged()
    with pytest.raises(ConfigurationError, match="`balance` must go with data that have classes"):
        TrainingBatches(unlabelled.without("label"), 5, balance=True)


def test_source_and_image_can_be_exchanged():
    data = numbered(3)
    other = data.exchanged()
    assert torch.equal(other.samples[1]["image"], data.samples[1]["source"])
    assert torch.equal(other.samples[1]["source"], data.samples[1]["image"])
    assert other.fields["image"] == data.fields["source"]
    assert torch.equal(other.exchanged().samples[2]["image"], data.samples[2]["image"])
    assert other.select([2, 0]).labels().tolist() == [2, 0]
    with pytest.raises(ConfigurationError, match="must have a source"):
        data.without("source").exchanged()
