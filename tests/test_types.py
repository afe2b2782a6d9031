from __future__ import annotations

import json
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchgenaug.errors import ConfigurationError
from torchgenaug.types import FieldSpec

specs = st.builds(
    FieldSpec,
    st.lists(st.integers(1, 9), max_size=4).map(tuple),
    st.sampled_from([torch.float32, torch.float16, torch.uint8]),
    kind=st.sampled_from(["intensity", "scalar"]),
    value_range=st.none() | st.tuples(st.floats(-10, 0), st.floats(0.5, 10)),
)


@given(specs)
def test_round_trips(spec):
    assert FieldSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(spec) == hash(pickle.loads(pickle.dumps(spec)))


def test_is_frozen():
    with pytest.raises(AttributeError):
        FieldSpec((1,)).shape = (2,)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((8,), {}, r"`shape` must be a tuple of integers without the batch axis, got 8\. .*\(8,\) for a vector"),
        (((1, 2.5),), {}, r"`shape` must be a tuple of integers .* got \(1, 2.5\)"),
        (("8",), {}, "`shape` must be a tuple of integers .* got '8'"),
        (((1, 3), "float32"), {}, "`dtype` must be a torch dtype, got 'float32'"),
        (((1, 3),), {"value_range": 1}, r"`value_range` must be \(low, high\), .* got 1"),
        (((1, 3),), {"value_range": (0, 1, 2)}, r"`value_range` must be \(low, high\)"),
        (((0, 3),), {}, r"`shape` must hold positive sizes, got \(0, 3\)"),
        (((1, 3),), {"kind": "image"}, "`kind` must be one of .*, got 'image'"),
        (((1, 3),), {"kind": "label_map"}, "integer dtype, got torch.float32.*int64"),
        (((1, 3),), {"value_range": (1, 1)}, r"`value_range` must be \(low, high\)"),
        (((1, 3),), {"value_range": (0, float("nan"))}, r"`value_range` must be \(low, high\)"),
    ],
)
def test_bad_specs(arguments, options, message):
    with pytest.raises(ConfigurationError, match=message):
        FieldSpec(*arguments, **options)


def test_from_json_does_not_take_any_name_of_torch():
    with pytest.raises(ConfigurationError, match="must name a torch dtype, got 'load'"):
        FieldSpec.from_json({"shape": [1], "dtype": "load", "kind": "intensity", "value_range": None})
