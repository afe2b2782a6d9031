"""``torchgenaug render --list-jobs`` and ``--job``, by which a scheduler such as Slurm renders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from torchgenaug.cli import app
from torchgenaug.cli.jobs import array_of
from torchgenaug.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
FACTORIES = """
from torchgenaug.testing import AnalyticSynthesizer

def plain():
    return AnalyticSynthesizer((16, 16))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "factories_of_jobs.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "factories_of_jobs", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def render(*options, out="shards"):
    words = ["render", "factories_of_jobs:plain", "--out", out, "--count", "30", "--shard-size", "8"]
    result = CliRunner().invoke(app, [*words, "--batch-size", "4", *map(str, options)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_jobs_make_what_one_render_makes(here):
    render(out="whole")
    assert render("--list-jobs").stdout == "0-3\n"
    assert "shard-00002." in render("--job", 2).stdout
    assert "Shard 2 of 4 is there already." in render("--job", 2).stdout
    assert render("--list-jobs").stdout == "0-1,3\n"
    for index in (3, 0):
        render("--job", index)
    # The last one by the script of the documentation, as Slurm would start it.
    bin_folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([str(ROOT), str(here), os.environ.get("PYTHONPATH", "")])
    environment = {"MODEL": "factories_of_jobs:plain", "OUT": "shards", "COUNT": "30", "SHARD_SIZE": "8"}
    environment |= {"SLURM_ARRAY_TASK_ID": "1", "BATCH_SIZE": "4", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    script = ROOT / "docs" / "examples" / "cluster" / "render_array.sh"
    done = subprocess.run(
        ["bash", script],
        env=os.environ | environment | {"PATH": os.pathsep.join([bin_folder, os.environ["PATH"]])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    nothing = render("--list-jobs")
    assert nothing.stdout == ""
    assert "there is nothing to do" in nothing.stderr
    names = {path.name for path in Path("whole").glob("*") if path.suffix in (".h5", ".json")}
    assert names == {path.name for path in Path("shards").iterdir()}  # the names hold the files' sha256
    assert "30 samples, 4 shards" in render().stdout  # the picture, the card


def test_array_of():
    assert [array_of(case) for case in ([5], [0, 1, 2], [0, 2, 3, 9])] == ["5", "0-2", "0,2-3,9"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--job", 4), "`--job` must be at most 3, the last shard of this render, got 4"),
        (("--job", 1, "--list-jobs"), "`--job` must be given without --list-jobs, got both"),
        (("--job", 1, "--repair"), "must be given without --repair, --keep and --dry-run"),
        (("--list-jobs", "--dry-run"), "must be given without --repair, --keep and --dry-run"),
    ],
)
def test_bad_options(here, options, message):
    with pytest.raises(ConfigurationError, match=message):
        render(*options)
    assert not list(Path().glob("shards/*.h5"))
