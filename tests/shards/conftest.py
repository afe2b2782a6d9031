from __future__ import annotations

import pytest
from shards_helpers import render


@pytest.fixture
def folder(tmp_path):
    """A finished render of 22 samples in six shards."""
    render(tmp_path / "shards")
    return tmp_path / "shards"
