"""Runs benchmarks and makes the report: ``python -m benchmarks [--quick] [--profile] [--only PART] [NAME ...]``.

``python -m benchmarks --targets`` measures what the table of targets needs, in one run.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import torch

from benchmarks import target_run

QUESTIONS = tuple(sorted(p.stem for p in Path(__file__).parent.glob("*.py") if "\ndef measure(" in p.read_text()))
"""Modules with a ``measure``; the others are helpers, or campaigns of hours with a command of their own."""
REPORT = "report"
IN_PARTS = ("generator", "loader", "mixing", "pool", "reading", "rendering", "scale")
"""Those that take minutes, of which parts can run by themselves."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    shown = ", ".join((*QUESTIONS, REPORT))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones, of {shown} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing kept: shows that everything runs")
    parser.add_argument("--targets", action="store_true", help="what the table of targets needs, in half an hour")
    parser.add_argument("--profile", action="store_true", help="then profile what missed its target")
    parser.add_argument("--only", metavar="PART", help="of one benchmark, the parts whose names contain this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    unknown = sorted(set(arguments.names) - {*QUESTIONS, REPORT})
    if unknown:
        parser.error(f"unknown benchmarks {unknown}; there are {shown}")
    if arguments.only is not None and arguments.names not in [[name] for name in IN_PARTS]:
        parser.error(f"--only is for one of {', '.join(IN_PARTS)}")
    if arguments.targets and (arguments.names or arguments.quick):
        parser.error("--targets runs what the table needs: it goes with no names, and not with --quick")
    failed = target_run.run() if arguments.targets else []
    for name in arguments.names or (() if arguments.targets else QUESTIONS):
        if name != REPORT:
            options = {} if arguments.only is None else {"only": arguments.only}
            importlib.import_module(f"benchmarks.{name}").measure(quick=arguments.quick, **options)
    if arguments.quick:
        return
    from benchmarks import profiles, report

    if arguments.profile:
        profiles.write(report.missed(report.load()))
    print("\n".join(str(path) for path in report.write()))
    if failed:
        raise SystemExit(f"failed, with their earlier results left: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
