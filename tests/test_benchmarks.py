"""Every benchmark runs, in its tiny version, and keeps nothing. Results are checked inside; times are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import QUESTIONS

ROOT = Path(__file__).parents[1]
GROUPS = 4  # each in one process: to import what they need takes longer than most of them


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("group", range(GROUPS))
def test_tiny_versions_run(group):
    names = QUESTIONS[group::GROUPS]
    results = ROOT / "benchmarks" / "results"
    before = {path: path.stat().st_mtime_ns for path in results.glob("*")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *names],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [name for name in names if f'"question": "{name}"' not in done.stdout] == []
    assert {path: path.stat().st_mtime_ns for path in results.glob("*")} == before
