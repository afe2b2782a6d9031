from __future__ import annotations

import math

import pytest
import torch

from torchgenaug.errors import ConfigurationError, FieldMismatchError, SmallSampleWarning
from torchgenaug.metrics import MAE, MS_SSIM, NMSE, PSNR, SSIM, UQI, VIF, compare_pairs
from torchgenaug.metrics.sets.degrade import blur


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.filterwarnings("ignore::torchgenaug.errors.SmallSampleWarning")
def test_every_measure_prefers_the_right_image_to_a_stranger():
    true = blur(images(12, 1, 48, 48), 1.5)
    made = (true + 0.02 * images(12, 1, 48, 48, seed=1)).clamp(0, 1)
    for name, result in compare_pairs(true, made, [MAE, NMSE, PSNR, SSIM, MS_SSIM, UQI, VIF]).items():
        assert (result.value > result.ceiling) == (result.better == "higher"), name
        assert result.low <= result.value <= result.high
        assert result.bounds[0] <= result.low
        assert result.high <= result.bounds[1]
        assert result.n == 12


def test_the_mean_over_batches_is_that_of_all():
    true, made = images(11, 1, 16, 16), images(11, 1, 16, 16, seed=1)
    small, large = (compare_pairs(true, made, [MAE, SSIM], batch_size=size) for size in (3, 64))
    for name in small:
        assert small[name].value == pytest.approx(large[name].value, rel=1e-5)
        assert small[name].ceiling == pytest.approx(large[name].ceiling, rel=1e-5)


def test_units_are_those_of_the_images():
    true = 2000 * images(10, 1, 12, 12) - 1000
    result = compare_pairs(true, true + 30, [MAE, PSNR], value_range=(-1000, 1000))
    assert result["MAE"].value == pytest.approx(30, rel=1e-4)
    assert result["PSNR"].value == pytest.approx(20 * math.log10(2000 / 30), rel=1e-4)


def test_volumes():
    true = images(10, 1, 12, 12, 12)
    result = compare_pairs(true, true * 0.9, [MAE, SSIM, UQI])
    assert 0.5 < result["SSIM"].value < 1
    with pytest.raises(FieldMismatchError, match="VIF is defined for 2D images"):
        compare_pairs(true, true, [VIF])


def test_the_slices_that_the_message_names_work():
    volumes = blur(images(2, 1, 6, 48, 48), 1.0)
    slices = volumes.movedim(2, 1).flatten(0, 1)
    with pytest.warns(SmallSampleWarning, match="2 independent pairs"):
        result = compare_pairs(slices, slices * 0.9, [VIF], groups=[number // 6 for number in range(12)])
    assert 0 < result["VIF"].value < 1


def test_undefined_values_are_left_out_loudly():
    true = images(12, 1, 8, 8)
    true[0] = 0
    with pytest.warns(SmallSampleWarning, match="NMSE: 1 of 12 pairs left out"):
        result = compare_pairs(true, true * 0.9, [NMSE])["NMSE"]
    assert result.value == pytest.approx(0.01, rel=1e-4)
    assert result.n == 11


def test_equal_images_have_an_infinite_psnr_and_the_result_says_so():
    true = images(12, 1, 8, 8)
    with pytest.warns(SmallSampleWarning, match="12 pairs of infinite value"):
        result = compare_pairs(true, true, [PSNR])["PSNR"]
    assert result.value == math.inf
    assert result.to_json()["value"] is None


@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        (images(4, 1, 8, 8), FieldMismatchError, "one image per reference, 5, got 4"),
        (images(5, 1, 8, 9), FieldMismatchError, "shape of their references"),
        (images(5, 1, 8, 8) * 255, ConfigurationError, "`value_range` must enclose"),
    ],
)
def test_pairs_that_do_not_fit(made, error, words):
    with pytest.raises(error, match=words):
        compare_pairs(images(5, 1, 8, 8), made, [MAE])


def test_small_images_are_refused_where_windows_do_not_fit():
    for measure, side in ((SSIM, 10), (MS_SSIM, 10), (VIF, 40), (UQI, 7)):
        with pytest.raises(FieldMismatchError, match=f"{measure.name} needs at least {side + 1} pixels"):
            compare_pairs(images(2, 1, side, 64), images(2, 1, side, 64), [measure])


def test_groups_of_another_length():
    with pytest.raises(ConfigurationError, match="one value per pair"):
        compare_pairs(images(3, 1, 8, 8), images(3, 1, 8, 8), [MAE], groups=[1, 2])
