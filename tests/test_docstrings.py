"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
import linecache
import pkgutil

import pytest

import torchgenaug
from torchgenaug.errors import MissingExtraError

NAMES = ["torchgenaug", *(module.name for module in pkgutil.walk_packages(torchgenaug.__path__, "torchgenaug."))]


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("__main__")])
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Before each docstring doctest looks whether any source file of the process has changed: thousands of them.
    monkeypatch.setattr(linecache, "checkcache", lambda filename=None: None)
    try:
        module = importlib.import_module(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
