from __future__ import annotations

import pytest
import torch

from torchgenaug import FieldSpec
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers import monai_conditions as conditions

SIZE = (4, 4)
SPEC = FieldSpec((1, *SIZE), value_range=(-1000, 1000))


def mask(value=1, dtype=torch.int64, shape=(2, 1, *SIZE)):
    return torch.full(shape, value, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_one_hot(dtype):
    classes = torch.arange(16).reshape(1, 1, *SIZE).to(dtype) % 3
    hot = conditions.one_hot(classes, 3)
    assert hot.shape == (1, 3, *SIZE)
    assert torch.equal(hot.argmax(1, keepdim=True), classes.long())
    assert torch.equal(hot.sum(1), torch.ones(1, *SIZE))


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
        (None, r"must hold 'mask', got None.*RealFields\(dataset, \['mask'\]\)"),
        ({"label": 1}, r"must hold 'mask', got \['label'\]"),
        ({"mask": mask().float()}, r"must be an integer tensor of shape \(2, 1, 4, 4\), got torch.float32"),
        ({"mask": mask(shape=(2, 1, 8, 8))}, r"got torch.int64 of shape \(2, 1, 8, 8\)"),
        ({"mask": mask(3)}, r"must hold classes in \[0, 3\), got 3 at position 0"),
        ({"mask": mask(-1)}, "got -1"),
    ],
)
def test_wrong_masks_are_named(given, message):
    with pytest.raises(ConfigurationError, match=message):
        conditions.given_mask(given, 2, SIZE, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "must hold 'source', got None"),
        (mask(), "must be a floating-point tensor"),
        (torch.zeros(2, 2, *SIZE), r"of shape \(2, 1, 4, 4\), got torch.float32 of shape \(2, 2, 4, 4\)"),
        (torch.full((2, 1, *SIZE), 1501.0), r"must hold intensities in \[-1000, 1000\], got \[1501, 1501\]"),
        (torch.full((2, 1, *SIZE), float("nan")), "must hold intensities"),
        (torch.full((2, 1, *SIZE), -float("inf")), "must hold intensities"),
    ],
)
def test_wrong_sources_are_named(given, message):
    with pytest.raises(ConfigurationError, match=message):
        conditions.given_source(None if given is None else {"source": given}, 2, SPEC)
    assert conditions.given_source({"source": torch.full((2, 1, *SIZE), 1499.0)}, 2, SPEC).shape == (2, 1, *SIZE)


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


@pytest.mark.parametrize(
    "source",
    [
        FieldSpec((1, *SIZE)),
        FieldSpec((1, 8, 8), value_range=(0, 1)),
        FieldSpec((1, *SIZE), torch.int64, kind="label_map", value_range=(0, 1)),
        (0, 1),
    ],
)
def test_wrong_specs_of_sources_are_named(source):
    with pytest.raises(ConfigurationError, match=r"`source` must be the FieldSpec of a floating-point image"):
        conditions.checked_source(source, SIZE)
