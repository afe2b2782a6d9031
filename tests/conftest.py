from __future__ import annotations

import fcntl
import functools
import gc
import importlib
import multiprocessing.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from tests import clean_interpreter

# A shell ignores Ctrl-C in what it runs in the background, and so does all that starts from there: tests that send it
# to a process of theirs would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Compiled once, not again in each of the hundred processes that tests start, whatever the machine says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Until all tests are collected nothing of what is imported goes away: looking for that takes seconds.
gc.disable()

settings.register_profile("default", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("default")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """More threads than cores make everything slower and change the last bits of results."""
    torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """GPU tests skip by themselves; long ones run when they are asked for with -m slow."""
    no_gpu = pytest.mark.skip(reason="needs a CUDA device")
    long = pytest.mark.skip(reason="minutes long; run with -m slow")
    for item in items:
        # By marker: the keywords of a test hold the names of its folders too, that of the checkout among them.
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if item.get_closest_marker("slow") and "slow" not in config.getoption("-m"):
            item.add_marker(long)


def pytest_collection_finish() -> None:
    """What all tests share, 700,000 objects, is left out of garbage collections, a quarter of the time of some."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 20, 20)  # cycles need not go at once; tests that need it collect them


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Names of functions and objects, not addresses, which differ between the processes of pytest-xdist."""
    if callable(val) or " at 0x" in repr(val):
        return getattr(val, "__name__", argname)
    return None


@pytest.fixture(autouse=True, scope="session")
def short_reports() -> Iterator[None]:
    """Reports of training runs on 16 samples, without loss curves, which took most of a run of a few steps.

    ``tests/recipes/test_fit.py`` and ``test_judge.py`` test both.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchgenaug.recipes.report.NUM_JUDGED", 16)
        patch.setattr("torchgenaug.recipes.report._draw_curves", lambda *_: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def brains_computed_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fewer deformed brains, still seconds of work, which are left in a file for the other processes of pytest-xdist.

    All of them: ``pytest -m slow tests/recipes/test_data.py``.
    """
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchgenaug.datasets.brain_contrasts._VARIANTS", {"train": 2, "held_out": 2})
        patch.setattr("torchgenaug.datasets.brain_volumes._COUNTS", {"train": 16, "held_out": 16})
        for name in ("brain_contrasts._pairs", "brain_volumes._brains"):
            module, function = name.split(".")
            compute = getattr(importlib.import_module(f"torchgenaug.datasets.{module}"), function)
            patch.setattr(f"torchgenaug.datasets.{name}", functools.lru_cache(_shared(compute, folder)))
        yield


def _shared(compute: Callable[..., tuple[Tensor, ...]], folder: Path) -> Callable[..., tuple[Tensor, ...]]:
    def load(*arguments: object) -> tuple[Tensor, ...]:
        file = folder / f"{compute.__name__}-{'-'.join(map(str, arguments))}.pt"
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                torch.save(compute(*arguments), file.with_suffix(".draft"))
                file.with_suffix(".draft").rename(file)
        tensors: tuple[Tensor, ...] = torch.load(file, weights_only=True)
        return tensors

    return load


@pytest.fixture(autouse=True, scope="session")
def spawned_quickly() -> Iterator[Callable[..., int]]:
    """Spawned processes begin with torch imported; gives what starts them else."""
    real = multiprocessing.util.spawnv_passfds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing.util, "spawnv_passfds", clean_interpreter.spawner())
        yield real
    clean_interpreter.close()


@pytest.fixture
def really_spawned(spawned_quickly: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of the method spawn are new interpreters, as they are for users."""
    monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", spawned_quickly)


@pytest.fixture(scope="session")
def quick_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the demo with 3 sampling steps in place of 15; the README's second example runs it as it is."""
    from torchgenaug import demo, load_synthesizer, save_synthesizer
    from torchgenaug.synthesizers import DiffusersSynthesizer

    slow, folder = load_synthesizer(demo.WEIGHTS), tmp_path_factory.mktemp("demo") / "weights"
    settings = {name: getattr(slow, name) for name in ("value_range", "label_channels", "clip", "null_class")}
    save_synthesizer(DiffusersSynthesizer(slow.unet, slow.scheduler, steps=3, **settings), folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def own_secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests make no secret for pseudonyms in the home of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHGENAUG_SECRET_FILE", str(tmp_path_factory.mktemp("secret") / "secret"))
        yield
