"""The kit for a machine with a GPU, in its tiny version on a CPU: every step ends well, and a bad one stops no other."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from benchmarks.gpu import pack, session, suite
from benchmarks.gpu.session import Session, chosen
from benchmarks.gpu.steps import STEPS, Step

ROOT = Path(__file__).parents[1]


def results(out):
    return json.loads((out / "results.json").read_text())


def run(out, *arguments):
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), "--device", "cpu", "--tiny", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


def test_every_step_runs_on_a_cpu(tmp_path):
    # The tests marked `gpu` are run by this very suite.
    done = run(tmp_path, "--minutes", "4.5", "--skip", "suite", "--commit", "abc")
    document = results(tmp_path)
    assert done.returncode == 0, document
    assert document["commit"] == "abc"
    assert document["versions"]["torch"]
    assert {name: step["state"] for name, step in document["steps"].items()} == {
        step.name: "done" for step in STEPS if step.name != "suite"
    }
    smoke = document["steps"]["smoke"]["results"]
    assert sum(found.get("saved_and_loaded") == "equal fingerprint" for found in smoke.values()) >= 14
    assert len(list(tmp_path.iterdir())) <= 3


def test_a_step_that_hangs_or_fails_stops_no_other(tmp_path, monkeypatch):
    def command(self, step, result):
        program = {"fails": "raise SystemExit(3)", "hangs": HANGS}.get(step.name, WRITES)
        return [sys.executable, "-c", program, str(result)]

    monkeypatch.setattr(session.Session, "_command", command)
    began = time.monotonic()
    made = Session(tmp_path, "cpu", tiny=True, minutes=1)
    assert not made.run([Step("hangs", 9, "?"), Step("fails", 30, "?"), Step("writes", 30, "?")])
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


def test_the_suite_finds_every_test_of_a_gpu():
    listed = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--collect-only", *suite.files()]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    found = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert found == set(suite.files())


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
