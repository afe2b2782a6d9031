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


def published(benchmarks, **kept):
    """The results that are published; of a question in `kept`, those parts."""
    documents = benchmarks("report").load()
    for question, parts in kept.items():
        results = documents[question]["results"]
        if question == "reading":
            wanted = {part.partition(", ") for part in parts}
            cells = {
                cell: {name: table for name, table in results["cells"][cell].items() if not only or name == only}
                for cell, _, only in wanted
            }
            documents[question]["results"] = {**results, "cells": cells}
        elif None not in parts:
            documents[question]["results"] = {
                name: entry for name, entry in results.items() if any(part in name for part in parts)
            }
    return {question: document["results"] for question, document in documents.items() if question in kept}


def values(benchmarks, results):
    found = {}
    for target in benchmarks("targets").TARGETS:
        try:
            found[target.what] = target.measure(results)
        except KeyError:
            found[target.what] = None
    return found


def test_a_run_for_the_targets_measures_all_that_they_speak_of(benchmarks):
    parts = benchmarks("target_run").PARTS
    everything = {question: document["results"] for question, document in benchmarks("report").load().items()}
    assert values(benchmarks, published(benchmarks, **parts)) == values(benchmarks, everything)
    # FFCV is compiled from its sources, which not every machine can do.
    missing = [what for what, value in values(benchmarks, everything).items() if value is None and "FFCV" not in what]
    assert not missing


def test_the_table_says_whether_its_rows_are_of_one_run(benchmarks):
    runs_of, parts = benchmarks("target_run").runs_of, benchmarks("target_run").PARTS
    run_line = benchmarks("report").run_line
    documents = {question: document(question, {}) for question in parts}
    assert list(runs_of(documents)) == ["2020-01-01, commit abc"]
    assert run_line(documents) == "All rows were measured in one run: 2020-01-01, commit abc."
    # Some parts of a benchmark may be older; only those that targets speak of count.
    old = {"date": "2019-01-01T00:00:00", "commit": "old"}
    documents["mixing"]["parts"] = {"dict, 0 workers": old, "tuple, 0 workers": {"date": "2020-01-01", "commit": "abc"}}
    assert list(runs_of(documents)) == ["2020-01-01, commit abc"]
    documents["mixing"]["parts"]["tuple, 2 workers"] = old
    assert runs_of(documents)["2019-01-01, commit old"] == ["mixing: tuple, 2 workers"]
    assert "2019-01-01, commit old (mixing: tuple, 2 workers)" in run_line(documents)
    assert run_line({"mixing": documents["mixing"]}) in benchmarks("report").markdown({"mixing": documents["mixing"]})


def test_a_part_that_fails_leaves_the_others_theirs(benchmarks, monkeypatch):
    module, ran = benchmarks("target_run"), []

    def run(command, **options):
        ran.append(command[3:])
        return module.subprocess.CompletedProcess(command, command[3] == "mixing")

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module, "PARTS", {"mixing": ("tuple, 0 workers",), "fit_step": (None,)})
    assert module.run() == ["mixing --only tuple, 0 workers"]
    assert ran == [["mixing", "--only", "tuple, 0 workers"], ["fit_step"]]
