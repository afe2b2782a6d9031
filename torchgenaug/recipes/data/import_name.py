"""Calls a user's function named ``package.module:function``."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from torchgenaug.errors import ConfigurationError


def call_by_name(name: str, what: str, expected: str = "package.module:function") -> Any:
    """Returns what ``function()`` of ``package.module`` returns; modules of the working directory are found too.

    Args:
        name: ``package.module:function``. This imports and runs the user's code.
        what: name of the argument, for errors.
        expected: what the argument may be, for errors.

    Raises:
        ConfigurationError: not such a name, no such module, or no such function in it.
    """
    module_name, _, function_name = name.partition(":")
    if not (module_name and function_name):
        raise ConfigurationError(f"{what} must be {expected}, got {name!r}. For example: my_package.data:train_set")
    with _working_directory_importable():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"{what} must be {expected}, got {name!r}: {error}. Run the command where the module can be imported, "
                "or give the path of a folder."
            ) from error
        function = getattr(module, function_name, None)
        if not callable(function):
            there = ", ".join(key for key, value in vars(module).items() if callable(value) and key[0] != "_")
            raise ConfigurationError(
                f"{what} must name a function or class of {module_name!r}, got {function_name!r}, which it does not "
                f"have. It has: {there}."
            )
        try:
            return function()
        except TypeError as error:
            error.add_note(f"while {name!r} was called without arguments, as {what} is")
            raise


@contextlib.contextmanager
def _working_directory_importable() -> Iterator[None]:
    """Puts the working directory first in ``sys.path``, as ``python -m`` does, and takes it away again."""
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have removed it
            sys.path.remove(here)
