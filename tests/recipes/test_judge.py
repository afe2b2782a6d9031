from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torchgenaug import FunctionSynthesizer
from torchgenaug.errors import CollapseWarning
from torchgenaug.recipes.data.training_data import TensorSamples, TrainingData, spread_rows
from torchgenaug.recipes.judge import CopyTest, sliced_wasserstein
from torchgenaug.recipes.report import HeldOutConditions, Judge
from torchgenaug.types import FieldSpec


def pictures(count, seed, spatial=(32, 32)):
    """Smooth random textures with a bright disc at a random place."""
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn((count, 1, *spatial), generator=draw)
    pool = nn.functional.avg_pool2d if len(spatial) == 2 else nn.functional.avg_pool3d
    smooth = pool(noise, 5, stride=1, padding=2)
    grid = torch.stack(torch.meshgrid(*(torch.arange(size) for size in spatial), indexing="ij")).float()
    middle = torch.tensor(spatial).float() * (0.3 + 0.4 * torch.rand((count, len(spatial)), generator=draw))
    distance = (grid[None] - middle.view(count, -1, *[1] * len(spatial))).norm(dim=1, keepdim=True)
    return smooth + torch.sigmoid(6 - distance)


@pytest.mark.parametrize("spatial", [(32, 32), (33, 40), (16, 16), (16, 24, 16)])
def test_distance_orders_what_a_person_would_order(spatial):
    real, others = pictures(64, 1, spatial), pictures(64, 2, spatial)
    same = sliced_wasserstein(others, real)
    pool = nn.functional.avg_pool2d if len(spatial) == 2 else nn.functional.avg_pool3d
    blurred = sliced_wasserstein(pool(others, 3, stride=1, padding=1), real)
    noise = sliced_wasserstein(torch.rand(64, 1, *spatial), real)
    collapsed = sliced_wasserstein(others[:1].expand(64, *others.shape[1:]), real)
    assert sliced_wasserstein(real, real) == 0
    assert same < 0.5 * blurred
    assert same < 0.5 * collapsed
    assert blurred < noise


def test_distance_sees_a_loss_of_contrast():
    real, others = pictures(64, 1), pictures(64, 2)
    assert sliced_wasserstein(0.7 * others, real) > 3 * sliced_wasserstein(others, real)


def test_distance_is_a_function_of_its_arguments():
    real, others = pictures(16, 1), pictures(20, 2)
    before = torch.get_rng_state()
    assert sliced_wasserstein(others, real) == sliced_wasserstein(others, real)
    assert torch.equal(torch.get_rng_state(), before)


TRAIN, HELD_OUT = pictures(400, 3), pictures(80, 4)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images,
        lambda images: images + 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)),
        lambda images: 1.05 * images,
        lambda images: images.roll(1, -1),
    ],
    ids=["exact", "noise", "gain", "shift"],
)
def test_copies_are_found(change):
    test = CopyTest(TRAIN, HELD_OUT)
    fraction = test.fraction(change(TRAIN[::6]))
    assert fraction > 0.9
    assert test.alarming(fraction, 64)


@pytest.mark.parametrize("seed", range(5, 15))
def test_new_images_raise_no_alarm(seed):
    test = CopyTest(TRAIN, HELD_OUT)
    fraction = test.fraction(pictures(64, seed))
    assert not test.alarming(fraction, 64)


def test_blurred_images_are_no_copies():
    """An autoencoder's images lie in the middle of all: near to training images, and as near to any others."""
    test = CopyTest(TRAIN, HELD_OUT)
    blurred = nn.functional.avg_pool2d(pictures(64, 20), 9, stride=1, padding=4)
    assert not test.alarming(test.fraction(blurred), 64)


def test_a_few_copies_among_many_are_found():
    mixed = torch.cat([TRAIN[:16], pictures(48, 21)])
    test = CopyTest(TRAIN, HELD_OUT)
    assert test.alarming(test.fraction(mixed), 64)


def test_a_block_of_held_out_images_tells_nothing():
    """Slices that were held out together resemble each other more than any others: noise would count as copies."""
    block = pictures(1, 30) + 0.1 * pictures(20, 31)
    test = CopyTest(TRAIN, block)
    assert not test.comparable
    fraction = test.fraction(torch.rand(64, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert fraction != fraction
    assert not test.alarming(fraction, 64)


def test_images_of_one_patient_are_not_compared_with_each_other():
    """Four nearly equal images of each of twenty held-out patients."""
    held_out = pictures(20, 32).repeat_interleave(4, 0) + 0.1 * pictures(80, 33)
    whose = [f"patient {k // 4}" for k in range(80)]
    assert not CopyTest(TRAIN, held_out).comparable
    test = CopyTest(TRAIN, held_out, whose)
    assert test.comparable
    assert test.fraction(TRAIN[::6]) > 0.9
    assert not test.alarming(test.fraction(pictures(64, 34)), 64)
    assert not CopyTest(TRAIN, held_out, ["one"] * 80).comparable


def test_conditions_of_held_out_samples_come_mixed_and_each_once_a_round():
    """Data lie sorted by class or by subject; sixteen shown samples must not be all of one."""
    labels = torch.arange(40) // 10
    held_out = TrainingData(
        TensorSamples({"image": torch.zeros(40, 1, 4, 4), "label": labels}),
        {
            "image": FieldSpec((1, 4, 4), value_range=(0, 100)),
            "label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, 3)),
        },
        tuple(map(str, range(40))),
        "sorted",
    )
    conditions = HeldOutConditions(held_out, "label")
    told = conditions(list(range(80)))["label"]
    assert told[:16].unique().tolist() == [0, 1, 2, 3]
    assert torch.equal(told[:40].sort().values, labels)
    assert torch.equal(told[:40], told[40:])
    assert HeldOutConditions(held_out, None)([0, 1]) == {}


def data_of(images):
    """Training data of these images, sorted as they are."""
    return TrainingData(
        samples=TensorSamples({"image": images}),
        fields={"image": FieldSpec(tuple(images.shape[1:]), value_range=(-5, 5))},
        ids=tuple(map(str, range(len(images)))),
        name="test",
    )


@pytest.mark.parametrize("count", [2300, 3999, 4100])
def test_copies_of_the_last_training_images_are_found(count):
    """Real sets are sorted by class: whatever is thinned out, the end is compared as well as the beginning."""
    judge = Judge(data_of(pictures(count, 5, (16, 16))), data_of(pictures(120, 6, (16, 16))), None)
    copies = {"image": judge.data.samples.columns["image"][-64:]}
    assert judge.copied(copies) == (1.0, True)
    assert judge.copied({"image": pictures(64, 7, (16, 16))})[1] is False


@given(st.integers(0, 3000), st.integers(1, 300))
def test_spread_rows_are_distinct_sorted_and_reach_both_ends(total, most):
    rows = spread_rows(total, most)
    assert rows == sorted(set(rows))
    assert len(rows) == min(total, most)
    if rows:
        gap = -(-total // most)
        assert rows[0] <= gap
        assert rows[-1] >= total - 1 - gap


def test_the_training_distance_uses_images_of_all_classes():
    dark, bright = pictures(640, 1, (16, 16)), 3 + pictures(640, 2, (16, 16))
    sorted_by_class = Judge(data_of(torch.cat([dark, bright])), data_of(torch.cat([dark[:32], bright[:32]])), None)
    assert sorted_by_class.floor < 0.2


def test_blank_samples_do_not_end_a_training():
    fields = {"image": FieldSpec((1, 16, 16), value_range=(0, 1))}
    blank = FunctionSynthesizer(
        lambda seeds, conditions: {"image": torch.zeros(len(seeds), 1, 16, 16)}, fields, fingerprint="blank"
    )
    judge = Judge(data_of(pictures(40, 1, (16, 16))), data_of(pictures(20, 2, (16, 16))), None)
    with pytest.warns(CollapseWarning, match="16 of 16 samples are blank, one value throughout"):
        samples = judge.samples(blank)
    assert judge.distance(samples) > judge.floor
