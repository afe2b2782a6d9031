"""All tests, where the default device is a GPU and versions are others; those of packages that are not here fail."""

from __future__ import annotations

from benchmarks.gpu import suite
from benchmarks.gpu.settings import Record, Settings


def measure(settings: Settings, record: Record) -> None:
    """See `suite.measure`."""
    suite.run(["tests", "--ignore=tests/test_gpu_kit.py", "--ignore=tests/test_benchmarks.py"], 14, settings, record)
