"""Every benchmark runs, in its tiny version, and keeps nothing. Results are checked inside; times are not.

Those that train, render or start processes take seconds even so; what they call has tests of its own. Before they are
run in earnest: ``pytest -m slow tests/test_benchmarks.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command

ROOT = Path(__file__).parents[1]
LONG = {
    "copies",
    "default_steps",
    "diffusion_defaults",
    "families",
    "generator",
    "import_time",
    "pool_cost",
    "pretrained",
    "reading",
    "rendering",
    "scale",
    "time_to_distance",
    "transforms",
}
NAMES = [pytest.param(each, marks=pytest.mark.slow if each in LONG else ()) for each in command.QUESTIONS]


@pytest.mark.filterwarnings("ignore")  # of blank and of alike images, which stand in for samples
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NAMES)
def test_tiny_versions_run(name, monkeypatch, capsys):
    """In this process: to import what they need takes longer than most of them."""
    results = ROOT / "benchmarks" / "results"
    before = {path: path.stat().st_mtime_ns for path in results.glob("*")}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", name])
    command.main()
    assert f'"question": "{name}"' in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in results.glob("*")} == before
