"""Runs every benchmark: ``python -m benchmarks [--quick] [NAME ...]``."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import torch

QUESTIONS = tuple(
    sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if path.stem not in ("__init__", "__main__", "harness", "report")
    )
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which ones, of {', '.join(QUESTIONS)} (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing kept: shows that everything runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    unknown = sorted(set(arguments.names) - set(QUESTIONS))
    if unknown:
        parser.error(f"unknown benchmarks {unknown}; there are {', '.join(QUESTIONS)}")
    for name in arguments.names or QUESTIONS:
        importlib.import_module(f"benchmarks.{name}").measure(quick=arguments.quick)


if __name__ == "__main__":
    main()
