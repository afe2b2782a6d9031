"""Runs benchmarks and makes the report: ``python -m benchmarks [--quick] [--profile] [--only PART] [NAME ...]``."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import torch

QUESTIONS = tuple(sorted(p.stem for p in Path(__file__).parent.glob("*.py") if "\ndef measure(" in p.read_text()))
"""Modules with a ``measure``; the others are helpers, or campaigns of hours with a command of their own."""
REPORT = "report"
IN_PARTS = ("loader", "mixing", "pool", "reading", "rendering")
"""Those that take minutes, of which parts can run by themselves."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    shown = ", ".join((*QUESTIONS, REPORT))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones, of {shown} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing kept: shows that everything runs")
    parser.add_argument("--profile", action="store_true", help="then profile what missed its target")
    parser.add_argument("--only", metavar="PART", help="of one benchmark, the parts whose names contain this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    unknown = sorted(set(arguments.names) - {*QUESTIONS, REPORT})
    if unknown:
        parser.error(f"unknown benchmarks {unknown}; there are {shown}")
    if arguments.only is not None and arguments.names not in [[name] for name in IN_PARTS]:
        parser.error(f"--only is for one of {', '.join(IN_PARTS)}")
    for name in arguments.names or QUESTIONS:
        if name != REPORT:
            options = {} if arguments.only is None else {"only": arguments.only}
            importlib.import_module(f"benchmarks.{name}").measure(quick=arguments.quick, **options)
    if arguments.quick:
        return
    from benchmarks import profiles, report

    if arguments.profile:
        profiles.write(report.missed(report.load()))
    print("\n".join(str(path) for path in report.write()))


if __name__ == "__main__":
    main()
