"""The studies of each task in tiny versions: what is run, where it is written, and what is refused; never scores."""

from __future__ import annotations

import json
import tomllib

import pytest
from study_helpers import study

from torchgenaug import cli
from torchgenaug.errors import ConfigurationError, InterruptedTrainingError
from torchgenaug.study.examples import EXAMPLES
from torchgenaug.tasks import TASKS, run_task
from torchgenaug.tasks import run as run_module


def test_every_task_is_a_list_of_examples():
    assert {name for names in TASKS.values() for name in names} <= set(EXAMPLES)


def test_a_task_runs_its_studies_and_goes_on_where_it_was(tmp_path, monkeypatch):
    seen = []

    def load(file, out):
        settings = tomllib.loads(file.read_text())
        seen.append((file.name, out.name, settings["seeds"], settings["data"]["name"]))
        return study(seeds=settings["seeds"], steps=2)

    monkeypatch.setattr(run_module, "load_study", load)
    lines = []
    summaries = run_task("segmentation", tmp_path, seeds=3, report=lines.append)
    assert seen == [("nuclei.toml", "nuclei", 3, "nuclei"), ("new-masks.toml", "new-masks", 3, "brain")]
    for name in ("nuclei", "new-masks"):
        written = json.loads((tmp_path / name / "summary.json").read_text())
        assert {key: written[key] for key in summaries[name]} == summaries[name]
        assert summaries[name]["arms"]["mix 50%"]["runs"] == 3
    assert sum(line.startswith("mix 50%: ") for line in lines) == 2
    again = []
    assert run_task("segmentation", tmp_path, seeds=3, report=again.append) == summaries
    assert not any("runs, arm" in line for line in again)
    assert any("runs, arm" in line for line in lines)


def test_unknown_task(tmp_path):
    with pytest.raises(ConfigurationError, match=r"`task` must be one of classification, .*got 'nothing'"):
        run_task("nothing", tmp_path)
    with pytest.raises(ConfigurationError, match="`seeds` must be at least 1, got 0"):
        run_task("volumes", tmp_path, seeds=0)


@pytest.mark.parametrize("arguments", [["--seeds", "3"], ["--task", "volumes", "--epochs", "2"]])
def test_options_that_would_have_no_effect_are_refused(arguments, tmp_path):
    from typer.testing import CliRunner

    result = CliRunner().invoke(cli.app, ["demo", "--out", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert arguments[-2] in result.output


def test_the_command_line_ends_an_interrupted_job_as_a_shell_expects(monkeypatch, capsys):
    def interrupted():
        raise InterruptedTrainingError("The training must end.")

    monkeypatch.setattr(cli, "_run", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert "The training must end." in capsys.readouterr().err
