"""`lazy_exports`: names of a package that are imported when they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions ``__getattr__`` and ``__dir__`` of a package whose names lie in its modules (PEP 562).

    Importing the package then imports none of them, nor the optional libraries that they need.

    Args:
        package: the package's ``__name__``.
        homes: name → module that defines it, relative to `package`.

    Example:
        In an ``__init__.py``::

            __getattr__, __dir__ = lazy_exports(__name__, {"SyntheticPool": "synthetic_pool"})
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, list_names
