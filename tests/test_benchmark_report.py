"""The report says of each target whether it was reached, missed or not measured, from the JSON files alone."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def document(question, results):
    about = {"date": "2020-01-01T00:00:00", "commit": "abc", "device": "cpu", "cores": 2, "torch_threads": 1}
    return {"question": question, **about, "versions": {"torch": "2"}, "results": results}


def reading(small, large=2.0):
    def entry(throughput):
        return {"throughput": throughput, "throughput_q1": throughput, "throughput_q3": 2 * throughput}

    table = {"ShardSource": entry(small), "h5py": entry(0.2), "FFCV": entry(large)}
    cells = {"1×64×64 float32": {"0 workers": table, "absent": {"zarr": "ImportError: no"}}}
    return document("reading", {"cells": cells, "kinds": {"ShardSource": "ours", "h5py": "plain"}})


def row(text, start):
    (found,) = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return found


def test_reached_missed_and_not_measured(benchmarks):
    text = benchmarks("report").markdown({"reading": reading(1.5)})
    assert "| ≥ 1.4× | 1.5× | reached |" in row(text, "`ShardSource`, verified")
    assert "| 0.75× | **missed**" in row(text, "verified, over FFCV")
    assert "| not measured |" in row(text, "the same, not verified")
    assert "| **ShardSource** | 1.5 (1.5–3) |" in text
    assert "Absent: zarr: ImportError: no" in text


def test_missed_targets_name_profiles_that_exist(benchmarks):
    report, makers = benchmarks("report"), benchmarks("profiles").MAKERS
    assert report.missed({"reading": reading(1.5)}) == ["reading"]
    assert report.missed({"reading": reading(9.0)}) == []
    assert {target.profile for target in benchmarks("targets").TARGETS} <= {*makers, ""}


def test_tables_and_plot_are_made_of_the_files(benchmarks, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "reading.json").write_text(json.dumps(reading(1.5)))
    (tmp_path / "rendering.json").write_text(json.dumps(document("rendering", {"a": {"b": {"ratio": 1.5}}})))
    made = benchmarks("report").write(tmp_path)
    assert [path.name for path in made] == ["README.md", "reading.png"]
    assert made[1].read_bytes()[:4] == b"\x89PNG"
    assert "| a / b | 1.5 |" in made[0].read_text()
