from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
import torch

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.synthesizers import FunctionSynthesizer
from torchgenaug.testing import SynthesizerConformance
from torchgenaug.types import FieldSpec

FIELDS = {"image": FieldSpec((1, 4, 4))}


def noise(seeds, conditions):
    return {"image": seeding.normal(seeds, (1, 4, 4))}


class TestFunction(SynthesizerConformance):
    def make(self):
        return FunctionSynthesizer(noise, FIELDS, fingerprint="noise 1")


def test_conditions_arrive():
    seen = []
    made = FunctionSynthesizer(lambda seeds, conditions: seen.append((seeds, conditions)), FIELDS, fingerprint="x")
    made.synthesize([1, 2], {"label": "something"})
    assert seen == [([1, 2], {"label": "something"})]
    assert "<lambda>" in repr(made)


def drawing(draw):
    """Samples of a global generator, which `draw` may set first."""

    def function(seeds, conditions):
        calls.append(len(seeds))
        return {"image": torch.stack([draw(seed) for seed in seeds])}

    calls = []
    return function, calls


def seeded_by_hand(seed):
    torch.manual_seed(seed % (1 << 32))
    return torch.randn(1, 4, 4)


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: torch.randn(1, 4, 4),
        lambda seed: torch.from_numpy(np.random.rand(1, 4, 4)).float(),
        lambda seed: torch.full((1, 4, 4), random.random()),
    ],
    ids=["torch", "numpy", "random"],
)
def test_chance_is_refused(draw):
    made = FunctionSynthesizer(drawing(draw)[0], FIELDS, fingerprint="x")
    with pytest.raises(ConfigurationError, match=r"other samples for the same seeds: FunctionSynthesizer\(drawing"):
        made.synthesize([1, 2])


def test_a_function_that_seeds_the_generator_itself_is_fine():
    function, calls = drawing(seeded_by_hand)
    made = FunctionSynthesizer(function, FIELDS, fingerprint="x")
    with torch.random.fork_rng(devices=[]):
        first, second = made.synthesize([5, 6])["image"], made.synthesize([6, 5])["image"]
    assert torch.equal(first, second.flip(0))
    assert calls == [2, 2, 2], "made twice, once"


def test_others_are_called_once():
    calls = []
    made = FunctionSynthesizer(lambda seeds, c: calls.append(1) or noise(seeds, c), FIELDS, fingerprint="x")
    for _ in range(3):
        made.synthesize([1])
    assert len(calls) == 3


def test_masks_may_differ_by_single_pixels_and_no_more():
    def flipping(share):
        def function(seeds, conditions):
            return {"mask": (torch.rand(len(seeds), 1, 64, 64) < share).long()}

        return FunctionSynthesizer(function, {"mask": FieldSpec((1, 64, 64), torch.int64)}, fingerprint="x")

    flipping(0.001).synthesize([1, 2])
    with pytest.raises(ConfigurationError, match="draws from a global generator"):
        flipping(0.1).synthesize([1, 2])


def test_fits_into_a_sequence():
    made = FunctionSynthesizer(noise, FIELDS, fingerprint="noise 1")
    assert SyntheticSequence(made).batch([0, 1])["image"].shape == (2, 1, 4, 4)


def test_fingerprint_hashes_the_text():
    one, two = (FunctionSynthesizer(noise, FIELDS, fingerprint=text).fingerprint for text in ("a", "b"))
    assert one == hashlib.sha256(b"function\na").hexdigest() != two


def test_later_changes_of_the_given_fields_do_not_matter():
    fields = dict(FIELDS)
    made = FunctionSynthesizer(noise, fields, fingerprint="x")
    fields.clear()
    assert made.fields == FIELDS


@pytest.mark.parametrize(
    ("function", "fields", "fingerprint", "message"),
    [
        (1, FIELDS, "x", r"`function` must be callable as function\(seeds, conditions\), got int"),
        (noise, {}, "x", "`fields` must say what every sample holds, got {}"),
        (noise, None, "x", "`fields` must say .* got None"),
        (noise, {"image": (1, 4, 4)}, "x", "`fields` must map names to FieldSpec, got 'image': tuple"),
        (noise, {0: FieldSpec((1,))}, "x", "`fields` must map names to FieldSpec, got 0"),
        (noise, FIELDS, " ", "`fingerprint` must be a text .* got ' '.*sha256 of the weights file"),
        (noise, FIELDS, 3, "`fingerprint` must be a text .* got 3"),
    ],
)
def test_bad_arguments(function, fields, fingerprint, message):
    with pytest.raises(ConfigurationError, match=message):
        FunctionSynthesizer(function, fields, fingerprint=fingerprint)
