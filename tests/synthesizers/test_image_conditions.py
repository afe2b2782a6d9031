"""Images and masks as conditions: what is checked, whatever the model."""

from __future__ import annotations

import pytest
import torch

from torchgenaug import FieldSpec
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts import image_conditions as conditions

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
        (None, r"must hold 'source', got None.*RealFields\(dataset, \['source'\]\)\. .*PlacedLesions or FillMissing; "),
        (mask(), "must be a floating-point tensor.*Resize or convert"),
        (torch.zeros(2, 2, *SIZE), r"\(2, 1, 4, 4\), got torch.float32 of shape \(2, 2, 4, 4\)\. Models that fill"),
        (torch.zeros(2, 1, 8, 8), "Resize or convert"),
        (torch.full((2, 1, *SIZE), 1501.0), r"must hold intensities in \[-1000, 1000\], got \[1501, 1501\]"),
        (torch.full((2, 1, *SIZE), float("nan")), "must hold intensities"),
        (torch.full((2, 1, *SIZE), -float("inf")), "must hold intensities"),
    ],
)
def test_wrong_sources_are_named(given, message):
    with pytest.raises(ConfigurationError, match=message):
        conditions.given_image("source", None if given is None else {"source": given}, 2, SPEC)
    assert conditions.given_image("source", {"source": torch.full((2, 1, *SIZE), 1499.0)}, 2, SPEC).shape == (
        2,
        1,
        *SIZE,
    )


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


def test_the_remedy_of_a_missing_condition_can_be_another_one():
    assert conditions.given("age", {"age": torch.ones(2)}, "numbers").tolist() == [1, 1]
    with pytest.raises(ConfigurationError, match=r"got \['sex'\]: this model is conditioned on numbers\. Ask\."):
        conditions.given("age", {"sex": torch.ones(2)}, "numbers", "Ask.")
