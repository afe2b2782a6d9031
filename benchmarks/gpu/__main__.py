"""Command line of the kit: see `benchmarks.gpu`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.gpu.pack import pack
from benchmarks.gpu.session import Session, chosen
from benchmarks.gpu.steps import STEPS


def main() -> int:
    names = ", ".join(step.name for step in STEPS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="All that only a GPU can show.")
    parser.add_argument("--out", type=Path, help="folder of results.json and log.txt")
    parser.add_argument("--minutes", type=float, default=9.0, help="everything has ended by then")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, mps, xpu or cpu")
    parser.add_argument("--tiny", action="store_true", help="the small version, which tests the kit itself")
    parser.add_argument("--only", nargs="+", default=[], metavar="STEP", help=f"these steps alone: {names}")
    parser.add_argument("--skip", nargs="+", default=[], metavar="STEP", help="all steps but these")
    parser.add_argument("--commit", help="commit of the code, for a copy without its history")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="collect packages for a machine without a registry")
    arguments = parser.parse_args()
    if arguments.pack is not None:
        print(pack(arguments.pack))
        return 0
    if arguments.out is None:
        parser.error("--out is missing: the folder of the results, for example --out results")
    try:
        steps = chosen(arguments.only, arguments.skip)
    except ValueError as error:
        parser.error(str(error))
    session = Session(arguments.out, arguments.device, arguments.tiny, arguments.minutes, arguments.commit)
    return 0 if session.run(steps) else 1


if __name__ == "__main__":
    raise SystemExit(main())
