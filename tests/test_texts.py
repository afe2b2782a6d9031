from __future__ import annotations

import pytest
import torch

from torchgenaug.texts import describe_value, first_few


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.zeros(1, 2), "torch.float32 of shape (1, 2)"),
        ([1, 2], "a list of 2"),
        ((1,), "a tuple of 1"),
        ("a", "str"),
    ],
)
def test_values_are_described(value, text):
    assert describe_value(value) == text


def test_long_lists_are_cut():
    assert first_few([1, 2]) == "[1, 2]"
    assert first_few(list(range(20))) == "[0, 1, 2, 3, 4, 5, 6, 7, … 20 in all]"
