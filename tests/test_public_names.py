"""Every public name can be the first thing that a program imports: no import circle waits for the wrong order."""

from __future__ import annotations

import os

import pytest

from tests import clean_interpreter

# A child for each name, from a process that has only the slow packages: forking is faster than starting Python anew.
PROGRAM = """
import importlib, os, sys
import numpy, torch
homes = importlib.import_module("torchgenaug")._HOMES
failed = []
for name in {home: name for name, home in homes.items()}.values():
    child = os.fork()
    if child == 0:
        try:
            getattr(importlib.import_module("torchgenaug"), name)
        except BaseException as error:
            print(name, type(error).__name__, error, flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
sys.exit(len(failed))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_each_public_name_can_be_imported_first():
    done = clean_interpreter.run(["-c", PROGRAM])
    assert done.returncode == 0, done.stdout + done.stderr
