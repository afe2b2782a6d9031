from __future__ import annotations

import hashlib

import pytest

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.sequence import SyntheticSequence
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
