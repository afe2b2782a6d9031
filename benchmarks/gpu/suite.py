"""The tests marked `gpu`, several at a time where pytest-xdist is there, with a limit for each."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.gpu.settings import Record, Settings

ROOT = Path(__file__).parents[2]
_MARK = re.compile(r"^\s*(@pytest\.mark\.gpu|pytestmark = .*mark\.gpu)", re.MULTILINE)


def files() -> list[str]:
    """Test modules with such tests: the others need not be imported, nor the packages that only they need."""
    found = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if _MARK.search(path.read_text())]
    return [str(path.relative_to(ROOT)) for path in found]


def measure(settings: Settings, record: Record) -> None:
    """Counts, and the failures with their texts.

    Raises:
        RuntimeError: if a test failed.
    """
    run(["-m", "gpu", *files()], 6, settings, record)


def run(selection: list[str], most_processes: int, settings: Settings, record: Record) -> None:
    """Runs a selection of tests.

    Raises:
        RuntimeError: if a test failed.
    """
    # Each outcome is printed as soon as it is there: what a step that is ended had found by then stands in its output.
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-ra", "--continue-on-collection-errors"]
    command += ["-p", "benchmarks.gpu.failures_at_once"]
    command += ["-W", "default"]  # other versions of other packages warn of other things
    if has("xdist") and not settings.tiny:
        command += ["-n", str(max(1, min(most_processes, (os.cpu_count() or 2) - 2)))]
    if has("pytest_timeout"):
        command += ["--timeout", "60"]
    else:
        command += ["-o", "timeout="]  # without the plugin pytest takes the setting of this project for a mistake
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        done = subprocess.run([*command, f"--junitxml={report}", *selection], cwd=ROOT, check=False)
        record("exit_code", done.returncode)
        if not report.exists():
            raise RuntimeError("pytest wrote no report; see the output.")
        for name, value in summary(report).items():
            record(name, value)
    # 5: all were deselected or skipped at collection.
    if done.returncode not in (0, 5):
        raise RuntimeError(f"pytest ended with {done.returncode}.")


def summary(report: Path) -> dict[str, Any]:
    """Counts and failures of a JUnit report."""
    passed, skipped, failures, slowest = 0, [], {}, {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        slowest[name] = float(case.get("time", 0))
        broken = [child for child in case if child.tag in ("failure", "error")]
        if broken:
            failures[name] = (broken[0].text or broken[0].get("message") or "")[-3000:]
        elif any(child.tag == "skipped" for child in case):
            skipped.append(name)
        else:
            passed += 1
    longest = sorted(slowest.items(), key=lambda item: -item[1])[:5]
    return {"passed": passed, "skipped": len(skipped), "failures": failures, "longest_s": dict(longest)}


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
