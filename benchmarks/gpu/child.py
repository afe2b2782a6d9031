"""Runs one step in this process: ``python -m benchmarks.gpu.child STEP --result FILE``."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.settings import Settings


class Journal:
    """Results of a step, written anew with each of them."""

    def __init__(self, path: Path) -> None:
        self.path, self.results = path, dict[str, Any]()

    def __call__(self, name: str, value: Any) -> None:
        self.results[name] = value
        print(f"{name}: {json.dumps(value)}", flush=True)
        self.write({"results": self.results})

    def write(self, document: dict[str, Any]) -> None:
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(document))
        os.replace(draft, self.path)


def run(step: str, settings: Settings, result: Path) -> bool:
    """Whether the step came to its end."""
    journal, began = Journal(result), time.monotonic()
    failure = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # untrained networks: their samples look alike; deprecations elsewhere
            importlib.import_module(f"benchmarks.gpu.{step}").measure(settings, journal)
    except Exception:
        failure = traceback.format_exc()
        print(failure, flush=True)
    ended = {"results": journal.results, "seconds": round(time.monotonic() - began, 2), "failure": failure}
    journal.write(ended)
    return failure is None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--result", type=Path, required=True)
    arguments = parser.parse_args()
    logging.getLogger("pythae").setLevel(logging.WARNING)
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    settings = Settings(torch.empty(0, device=arguments.device).device, arguments.tiny)
    return 0 if run(arguments.step, settings, arguments.result) else 1


if __name__ == "__main__":
    raise SystemExit(main())
