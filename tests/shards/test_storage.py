from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchgenaug.errors import ConfigurationError
from torchgenaug.shards.storage import INTENSITY_DTYPES, StoredField
from torchgenaug.types import FieldSpec

REALS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
EXACT = [*REALS, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16]


@given(st.sampled_from(EXACT), st.lists(st.integers(1, 4), max_size=3), st.integers(0, 2**32))
def test_own_dtype_is_exact(dtype, shape, seed):
    values = torch.from_numpy(np.random.default_rng(seed).normal(0, 50, (3, *shape)))
    values = values > 0 if dtype == torch.bool else values.abs().to(dtype)
    field = StoredField.plan("x", FieldSpec(tuple(shape), dtype, kind="scalar"))
    stored = field.encode(values)
    assert field.max_error == 0
    assert stored.nbytes == 3 * field.row_bytes
    decoded = field.decode(stored)
    assert decoded.dtype == dtype
    assert torch.equal(decoded, values)


ranges = st.tuples(st.floats(-5000, 5000), st.floats(1e-3, 1e4)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.sampled_from(REALS), st.sampled_from(INTENSITY_DTYPES), ranges, st.integers(0, 2**32))
def test_lossy_storage_stays_within_the_stated_error(dtype, stored, limits, seed):
    spec = FieldSpec((64,), dtype, value_range=limits)
    field = StoredField.plan("x", spec, stored)
    low, high = limits
    values = torch.from_numpy(np.random.default_rng(seed).uniform(low, high, (4, 64)))
    values[0, 0], values[0, 1] = low, high
    values = values.to(dtype)
    values = values[:, (values.double() >= low).all(0) & (values.double() <= high).all(0)]
    decoded = field.decode(field.encode(values))
    assert decoded.dtype == dtype
    if values.numel():
        assert (decoded.double() - values.double()).abs().max() <= field.max_error
    if stored.startswith("uint") and dtype in (torch.float32, torch.float64):
        # What is read must be valid for the field: no rounding may carry it out of its range.
        every = field.decode(np.arange(np.iinfo(stored).max + 1, dtype=stored))
        assert every.min() >= low
        assert every.max() <= high
        assert field.max_error <= 0.51 * (high - low) / np.iinfo(stored).max + 4e-6 * max(abs(low), abs(high))


def test_only_real_intensities_are_converted():
    for spec in (
        FieldSpec((4,), torch.int64, kind="label_map"),
        FieldSpec((), torch.float32, kind="scalar"),
        FieldSpec((4,), torch.uint8),
    ):
        assert StoredField.plan("x", spec, "uint16").dtype == str(spec.dtype).removeprefix("torch.")


def test_refusals_name_the_way_out():
    with pytest.raises(ConfigurationError, match=r"field 'x', which has no value range, got 'uint8'.*value_range"):
        StoredField.plan("x", FieldSpec((4,)), "uint8")
    with pytest.raises(ConfigurationError, match=r"must hold the value range .*largest value 65504.*dtype='uint16'"):
        StoredField.plan("x", FieldSpec((4,), value_range=(0, 1e5)), "float16")
    with pytest.raises(
        ConfigurationError, match=r"Field 'x' must have a real dtype that HDF5 holds, got torch.complex64"
    ):
        StoredField.plan("x", FieldSpec((4,), torch.complex64))


def test_json_round_trip():
    field = StoredField.plan("x", FieldSpec((1, 4), value_range=(-1, 1)), "uint16")
    assert StoredField.from_json(field.to_json()) == field
