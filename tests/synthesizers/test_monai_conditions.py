from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.monai import conditions


@pytest.mark.parametrize("size", [(4, 4), (4, 4, 4)])
def test_reduced_is_the_mean_of_blocks(size):
    image = torch.rand(1, 2, *size)
    half = conditions.reduced(image, tuple(length // 2 for length in size))
    assert torch.allclose(half[0, 0].flatten()[0], image[0, 0][tuple(slice(0, 2) for _ in size)].mean())
    assert conditions.reduced(image, size) is image


def test_ranges_are_mapped_to_each_other():
    image = torch.tensor([-1000.0, 0.0, 1000.0])
    assert conditions.in_network_range(image, (-1000, 1000), (0, 1)).tolist() == [0.0, 0.5, 1.0]
    assert torch.equal(conditions.in_network_range(image, (-5, 7), (-5, 7)), image)


def test_covariates_are_scaled_in_their_order():
    given = {"age": torch.tensor([20, 70]), "sex": torch.tensor([0.0, 1.0])}
    scaled = conditions.given_covariates(given, 2, {"sex": (0, 1), "age": (20, 120)})
    assert scaled.tolist() == [[0.0, 0.0], [1.0, 0.5]]
    assert scaled.dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "must hold 'age', got .*the covariates age"),
        ({"age": torch.zeros(2, 1)}, r"one number per sample, shape \(2,\), got shape \(2, 1\)"),
        ({"age": torch.tensor([5.0, 101.0])}, r"must lie in \[0, 100\], got 101 at position 1"),
        ({"age": torch.tensor([5.0, float("nan")])}, "got nan at position 1"),
    ],
)
def test_wrong_covariates_are_named(given, message):
    with pytest.raises(ConfigurationError, match=message):
        conditions.given_covariates(given, 2, {"age": (0, 100)})


@pytest.mark.parametrize(
    "covariates", [{"age": (1, 1)}, {"age": 5}, {"age": (0, float("inf"))}, {"mask": (0, 1)}, {"age": (0, 1, 2)}]
)
def test_wrong_ranges_of_covariates_are_named(covariates):
    with pytest.raises(ConfigurationError, match="`covariates` must map names of scalar conditions"):
        conditions.checked_covariates(covariates)
