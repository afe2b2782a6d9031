from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.spatial.distance
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou

from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError, SmallSampleWarning
from torchgenaug.metrics import DICE, JACCARD, compare_labels, hausdorff_measure
from torchgenaug.metrics.labels.hausdorff import hausdorff
from torchgenaug.metrics.labels.overlap import dice, jaccard


def maps(*shape: int, classes: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def square(side: int, at: tuple[int, ...], size: int, label: int = 1) -> torch.Tensor:
    found = torch.zeros((1, 1, *[side] * len(at)), dtype=torch.int64)
    found[(0, 0, *(slice(start, start + size) for start in at))] = label
    return found


@pytest.mark.parametrize("shape", [(4, 1, 9, 8), (2, 1, 5, 6, 7)])
def test_overlap_agrees_with_monai(shape):
    true, made = maps(*shape), maps(*shape, seed=1)
    one_hot = [torch.cat([each == label for label in range(3)], 1).float() for each in (made, true)]
    torch.testing.assert_close(dice(true, made, range(3)).float(), compute_dice(*one_hot))
    torch.testing.assert_close(jaccard(true, made, range(3)).float(), compute_iou(*one_hot))


def test_absent_classes():
    true, made = square(8, (1, 1), 3), square(8, (1, 1), 3, label=2)
    assert dice(true, made, (1, 2)).tolist() == [[0, 0]]
    assert dice(true, true, (1, 7))[0].isnan().tolist() == [False, True]
    distances = hausdorff(true, made, (1, 2, 7))
    assert distances[0, :2].tolist() == pytest.approx([math.hypot(8, 8)] * 2)
    assert distances[0, 2].isnan()


@pytest.mark.parametrize("spacing", [None, (0.5, 2.0)])
def test_hausdorff_agrees_with_scipy(spacing):
    true, made = square(16, (2, 3), 5), square(16, (4, 7), 6)
    points = [np.argwhere(each[0, 0].numpy()) * (spacing or (1, 1)) for each in (true, made)]
    expected = max(scipy.spatial.distance.directed_hausdorff(*order)[0] for order in (points, points[::-1]))
    assert float(hausdorff(true, made, (1,), spacing_mm=spacing)) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore:.*always_return_as_numpy")
@pytest.mark.parametrize("percentile", [None, 95])
def test_hausdorff_agrees_with_monai(percentile):
    true, made = square(14, (2, 3, 1), 7), square(14, (4, 5, 4), 8) * (maps(1, 1, 14, 14, 14) > 0)
    theirs = compute_hausdorff_distance(
        made, true, include_background=True, percentile=percentile, spacing=(1.0, 2.0, 0.5)
    )
    found = hausdorff(true, made, (1,), spacing_mm=(1.0, 2.0, 0.5), percentile=percentile)
    torch.testing.assert_close(found.float(), theirs.float())


def test_hausdorff_in_3d_and_its_percentile():
    true = square(12, (2, 2, 2), 5)
    made = true.clone()
    made[0, 0, 11, 11, 11] = 1
    assert float(hausdorff(true, made, (1,))) == pytest.approx(math.hypot(5, 5, 5))
    assert float(hausdorff(true, made, (1,), percentile=95)) == 0


def test_per_class_and_mean_with_intervals_and_strangers():
    true = torch.cat([square(16, (k % 8, k % 5), 6) + square(16, (9, k % 7), 5, label=2) for k in range(12)])
    made = true.roll(1, 3)
    results = compare_labels(true, made, (1, 2), [DICE, JACCARD, hausdorff_measure()])
    assert list(results)[:3] == ["Dice[1]", "Dice[2]", "Dice[mean]"]
    for result in results.values():
        assert (result.value > result.ceiling) == (result.better == "higher")
        assert result.low <= result.value <= result.high
    assert results["Dice[mean]"].value == pytest.approx((results["Dice[1]"].value + results["Dice[2]"].value) / 2)
    dice_1 = results["Dice[1]"].value
    assert results["Hausdorff[1]"].value == pytest.approx(1)
    assert dice_1 == pytest.approx(float(dice(true, made, (1,)).mean()))


def test_images_that_lack_a_class_are_counted():
    true = torch.cat([square(8, (1, 1), 3 if k < 11 else 0) for k in range(12)])
    result = compare_labels(true, true, (1,))["Dice[1]"]
    assert result.value == 1
    assert result.n == 11
    assert result.cautions == ("1 of 12 pairs left out: the class is in neither map",)


def test_no_pairs():
    with pytest.raises(EmptyDatasetError, match="at least one label map"):
        compare_labels([], [], (1,))


def test_few_patients_are_loud():
    true = maps(12, 1, 8, 8)
    with pytest.warns(SmallSampleWarning, match="3 independent pairs"):
        compare_labels(true, true, (1,), groups=[k // 4 for k in range(12)])


@pytest.mark.parametrize(
    ("made", "classes", "error", "words"),
    [
        (torch.zeros(4, 1, 8, 8), (1,), FieldMismatchError, "argmax"),
        (maps(4, 1, 8, 9), (1,), FieldMismatchError, "shape of their references"),
        (maps(3, 1, 8, 8), (1,), FieldMismatchError, "one map per reference"),
        (maps(4, 1, 8, 8), (), ConfigurationError, "`classes` must be"),
        (maps(4, 1, 8, 8), (1, 1), ConfigurationError, "`classes` must be"),
    ],
)
def test_maps_that_do_not_fit(made, classes, error, words):
    with pytest.raises(error, match=words):
        compare_labels(maps(4, 1, 8, 8), made, classes)
