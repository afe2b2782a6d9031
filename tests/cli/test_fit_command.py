from __future__ import annotations

import sys

import pytest
import torch
from typer.testing import CliRunner

from torchgenaug import load_synthesizer
from torchgenaug.cli import app
from torchgenaug.errors import ConfigurationError

FACTORY = """
    import torch

    class Discs(torch.utils.data.Dataset):
        def __len__(self):
            return 20
        def __getitem__(self, index):
            grid = torch.arange(16.0)
            distance = ((grid[:, None] - 8) ** 2 + (grid - 8) ** 2).sqrt()
            return {"image": torch.sigmoid(3 + index % 4 - distance)[None], "label": index % 2}
"""


@pytest.fixture
def discs(tmp_path, monkeypatch):
    import textwrap

    (tmp_path / "discs_for_fit.py").write_text(textwrap.dedent(FACTORY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield "discs_for_fit:Discs"
    sys.modules.pop("discs_for_fit", None)


def run(*arguments):
    result = CliRunner().invoke(app, ["fit", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


SMALL = [
    "--steps",
    "2",
    "--batch-size",
    "4",
    "--width",
    "8",
    "--sampling-steps",
    "2",
    "--reports",
    "1",
    "--device",
    "cpu",
]


def test_from_data_to_shards(tmp_path, discs):
    result = run("ddpm", discs, "--out", str(tmp_path / "model"), "--condition", "label", *SMALL)
    assert result.exit_code == 0, result.output
    assert "Finished after 2 steps" in result.output
    assert "Distance to held-out images" in result.output
    (command,) = [line for line in result.output.splitlines() if "torchgenaug render" in line]
    words = command.split()[1:]
    words[words.index("--count") + 1] = "4"
    rendered = CliRunner().invoke(app, words)
    assert rendered.exit_code == 0, rendered.output
    assert load_synthesizer(tmp_path / "model").num_classes == 2


def test_the_same_command_goes_on(tmp_path, discs):
    options = ["--out", str(tmp_path / "model"), *SMALL]
    first = run("ddpm", discs, *options, "--max-minutes", "0")
    assert "Stopped: the same command goes on after 0 steps" in first.output
    second = run("ddpm", discs, *options)
    assert "Finished after 2 steps" in second.output


def test_a_teacher(tmp_path, discs):
    """The student is told what its teacher is told, without being asked to."""
    run("ddpm", discs, "--out", str(tmp_path / "model"), "--condition", "label", *SMALL)
    options = [*SMALL[:4], *SMALL[6:], "--teacher", str(tmp_path / "model"), "--out", str(tmp_path / "fast")]
    result = run("progressive", discs, *options)
    assert "Finished after 2 steps" in result.output
    fast = load_synthesizer(tmp_path / "fast")
    assert (fast.num_classes, fast.steps) == (2, 2)
    with pytest.raises(ConfigurationError, match=r"`teacher` must be the folder .*--teacher FOLDER"):
        run("progressive", discs, *SMALL, "--out", str(tmp_path / "other"))


def test_a_dry_run_writes_nothing(tmp_path, discs):
    result = run("ddpm", discs, "--dry-run", *SMALL)
    assert "M parameters" in result.output
    assert "Nothing was written" in result.output
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py" and path.name != "__pycache__"] == []


def test_families_are_listed():
    result = run("list")
    assert result.exit_code == 0
    assert "ddpm" in result.output
    assert "--teacher FOLDER" in result.output


def test_mistakes(tmp_path, discs):
    with pytest.raises(ConfigurationError, match="FAMILY must be one of"):
        run("dragon", discs, "--out", str(tmp_path / "model"))
    with pytest.raises(ConfigurationError, match="The data must have 'mask' for this"):
        run("ddpm", discs, "--with-mask", "--out", str(tmp_path / "model"), *SMALL)
    assert "images to train on are needed" in run("ddpm", "--out", str(tmp_path / "model")).output
    forgotten = run("ddpm", discs, *SMALL)
    assert forgotten.exit_code == 2
    assert "--out" in forgotten.output


def test_threads(discs):
    before = torch.get_num_threads()
    try:
        run("ddpm", discs, "--dry-run", "--threads", "1", *SMALL)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
