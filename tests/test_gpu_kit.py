"""The kit for a machine with a GPU, tiny and on a CPU: every step ends well, and a bad one stops no other."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import child, failures_at_once, pack, session, smoke, suite
from benchmarks.gpu.session import Session, chosen
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.steps import STEPS, Step
from tests import clean_interpreter
from torchgenaug import synthesizers

ROOT = Path(__file__).parents[1]


def results(out):
    return json.loads((out / "results.json").read_text())


def run(out, *arguments):
    command = ["-m", "benchmarks.gpu", "--out", out, "--device", "cpu", "--tiny", *arguments]
    return clean_interpreter.run(command, cwd=ROOT)


# `suite` and `everything` would run tests of this very suite: the first runs below, on another one.
ELSEWHERE = {"suite", "everything"}
LONG = {"memory", "refresh", "generator", "compiled"}
NAMES = [
    pytest.param(step.name, marks=pytest.mark.slow if step.name in LONG else ())
    for step in STEPS
    if step.name not in ELSEWHERE
]


@pytest.mark.parametrize("name", NAMES)
def test_every_step_runs_on_a_cpu(name, tmp_path):
    """Before a machine is taken, the long ones, too: ``pytest -m slow tests/test_gpu_kit.py``."""
    settings = Settings(torch.device("cpu"), tiny=True)
    assert child.run(name, settings, tmp_path / "result.json"), (tmp_path / "result.json").read_text()
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["failure"] is None
    assert found["results"]
    if name == "smoke":
        loaded = [case.get("saved_and_loaded") == "equal fingerprint" for case in found["results"].values()]
        assert sum(loaded) >= 16


def test_the_smoke_test_has_every_synthesizer_class():
    cases = {name.partition(",")[0] for name in smoke.cases(Settings(torch.device("cpu"), tiny=True))}
    assert cases == {name for name in synthesizers.__all__ if name.endswith("Synthesizer")}


def test_the_suite_counts_tests_that_skip_themselves(tmp_path, monkeypatch):
    test = tmp_path / "test_one.py"
    test.write_text("import pytest\n@pytest.mark.gpu\ndef test_it():\n    pytest.skip('no GPU')\n")
    monkeypatch.setattr(suite, "files", lambda: [str(test)])
    assert child.run("suite", Settings(torch.device("cpu"), tiny=True), tmp_path / "result.json")
    found = json.loads((tmp_path / "result.json").read_text())["results"]
    assert (found["passed"], found["skipped"], found["failures"]) == (0, 1, {})


def test_failures_are_printed_at_once(capsys):
    """A run that is ended at its limit writes no summary."""
    failed = SimpleNamespace(
        failed=True, nodeid="tests/test_x.py::test_y", longreprtext="x" * 3000 + " E assert 1 == 2"
    )
    failures_at_once.pytest_runtest_logreport(failed)
    failures_at_once.pytest_runtest_logreport(SimpleNamespace(failed=False))
    printed = capsys.readouterr().out.split()
    assert printed[0] == failed.nodeid
    assert printed[-5:] == ["E", "assert", "1", "==", "2"]


def test_a_session_keeps_versions_commit_and_results(tmp_path):
    done = run(tmp_path, "--minutes", "4.5", "--only", "mixing", "--commit", "abc")
    document = results(tmp_path)
    assert done.returncode == 0, document
    assert document["commit"] == "abc"
    assert document["versions"]["torch"]
    assert document["steps"]["mixing"]["state"] == "done"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "results.json"]


def test_a_step_that_hangs_or_fails_stops_no_other(tmp_path, monkeypatch):
    def command(self, step, result):
        program = {"fails": "raise SystemExit(3)", "hangs": HANGS}.get(step.name, WRITES)
        return [sys.executable, "-c", program, str(result)]

    monkeypatch.setattr(session.Session, "_command", command)
    began = time.monotonic()
    made = Session(tmp_path, "cpu", tiny=True, minutes=1)
    assert not made.run([Step("hangs", 8.5, "?"), Step("fails", 30, "?"), Step("writes", 30, "?")])
    assert time.monotonic() - began < 50
    steps = results(tmp_path)["steps"]
    assert steps["hangs"]["state"] == "ended at its limit"
    assert steps["hangs"]["results"] == {"first": 1}
    assert steps["fails"]["state"] == "failed"
    assert steps["fails"]["exit_code"] == 3
    assert steps["writes"]["state"] == "done"
    assert "==== fails" in (tmp_path / "log.txt").read_text()


WRITES = 'import sys, json; open(sys.argv[1], "w").write(json.dumps({"results": {"first": 1}}))'
# It leaves a result, and a child that would live on.
HANGS = f'{WRITES}; import subprocess, time; subprocess.Popen(["sleep", "300"]); time.sleep(300)'


def test_without_time_nothing_is_begun(tmp_path):
    done = run(tmp_path, "--minutes", "0.1", "--only", "mixing")
    assert done.returncode == 1
    assert results(tmp_path)["steps"]["mixing"]["state"] == "no time left"


def test_unknown_steps_are_refused():
    with pytest.raises(ValueError, match="got \\['nothing'\\]"):
        chosen(["nothing"], [])
    assert [step.name for step in chosen(["loops", "smoke"], ["loops"])] == ["smoke"]
    assert "everything" not in [step.name for step in chosen([], [])]
    assert [step.name for step in chosen(["everything"], [])] == ["everything"]


def test_the_suite_finds_every_test_of_a_gpu():
    mark = "pytest." + "mark.gpu"
    marked = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py") if mark in path.read_text()}
    assert set(suite.files()) == marked - {"tests/test_gpu_kit.py"}


def test_packing_gives_an_archive_and_the_command(tmp_path, monkeypatch):
    def pip(command, **_):
        site = Path(command[command.index("--target") + 1])
        (site / "package").mkdir(parents=True)
        (site / "package" / "__init__.py").write_text("")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(pack.subprocess, "run", pip)
    text = pack.pack(tmp_path / "carried")
    with tarfile.open(tmp_path / "carried" / pack.ARCHIVE) as packed:
        assert "package/__init__.py" in packed.getnames()
    assert "python3 -m tarfile -e carried/site.tar.xz /tmp/site" in text
    assert 'benchmarks.gpu --out "${OUT:-results}"' in text


def test_packing_says_what_pip_could_not_find(tmp_path, monkeypatch):
    monkeypatch.setattr(
        pack.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "no such package")
    )
    with pytest.raises(RuntimeError, match="no such package"):
        pack.pack(tmp_path)
