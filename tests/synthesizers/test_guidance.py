from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.guidance import checked_classes, checked_guidance, guided, is_guided, twice


def test_guidance_leads_from_the_output_without_the_condition_to_that_with_it():
    conditional, unconditional = torch.full((2, 1), 3.0), torch.full((2, 1), 1.0)
    output = torch.cat([conditional, unconditional])
    assert guided(output, 0.0).tolist() == unconditional.tolist()
    assert guided(output, 1.0).tolist() == conditional.tolist()
    assert guided(output, 2.5).tolist() == [[6.0], [6.0]]


def test_the_halves_of_a_doubled_batch_are_the_batch():
    batch = torch.rand(3, 2)
    first, second = twice(batch).chunk(2)
    assert torch.equal(first, batch)
    assert torch.equal(second, batch)


@pytest.mark.parametrize(("scale", "asked"), [(None, False), (1, False), (1.0, False), (0.0, True), (2.0, True)])
def test_a_scale_of_one_is_no_guidance(scale, asked):
    assert is_guided(scale) is asked


@pytest.mark.parametrize("scale", [-0.5, float("nan"), float("inf"), True, "2"])
def test_wrong_scales_are_named(scale):
    with pytest.raises(ConfigurationError, match="`guidance_scale` must be finite and at least 0, got"):
        checked_guidance(scale)


def test_scales_become_floats():
    assert checked_guidance(None) is None
    assert isinstance(checked_guidance(2), float)


@pytest.mark.parametrize(
    ("count", "null_class", "scale", "message"),
    [
        (None, None, 2.0, "`unet` must be class-conditional for guidance_scale=2.0"),
        (None, 0, None, "`unet` must be class-conditional for null_class=0"),
        (3, 3, None, r"`null_class` must be a class index in \[0, 3\), got 3.*null_class=2"),
        (3, True, None, r"`null_class` must be a class index in \[0, 3\), got True"),
        (3, None, 2.0, "`null_class` must be given with guidance_scale=2.0"),
        (3, 2, -1.0, "`guidance_scale` must be finite and at least 0, got -1.0"),
    ],
)
def test_wrong_classes_are_named(count, null_class, scale, message):
    with pytest.raises(ConfigurationError, match=message):
        checked_classes(count, null_class, scale)


def test_the_null_class_is_counted():
    assert checked_classes(3, 2, 2.0) == 3
    assert checked_classes(3, None, None) == 3
    assert checked_classes(None, None, None) is None
