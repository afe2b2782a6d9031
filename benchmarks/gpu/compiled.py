"""`DiffusersSynthesizer` compiled: images per second, seconds of the first call, and distance."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.generator import DEFAULT, compared
from benchmarks.gpu.settings import Record, Settings


def measure(settings: Settings, record: Record) -> None:
    """Against diffusers' pipeline and the default, one option after the other: each may take its minute."""
    batch = settings.pick(64, 2)
    for name, option in options(settings).items():
        record(f"{name}, batch {batch}", compared(settings, batch, {DEFAULT: {}, name: option}))


def options(settings: Settings) -> dict[str, dict[str, Any]]:
    backend = "eager" if settings.tiny else True
    half = {"dtype": settings.half, "channels_last": True, "compile": backend}
    found: dict[str, dict[str, Any]] = {"compiled, half precision, channels last": half}
    if settings.is_cuda:
        found["compiled, half precision, channels last, CUDA graph"] = {**half, "cuda_graph": True}
    return found
