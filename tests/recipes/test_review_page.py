"""Every command on the page of the review's systems runs, with ``--dry-run``, on tiny images or volumes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
from fit_helpers import blobs, tiny
from typer.testing import CliRunner

import torchgenaug
from torchgenaug import save_synthesizer
from torchgenaug.cli import app
from torchgenaug.recipes import load_data
from torchgenaug.recipes.build import build_recipe, describe_family

PAGE = Path(__file__).parents[2] / "docs" / "review-systems.md"
COMMANDS = sorted(set(re.findall(r"`fit ([^`]+)`", PAGE.read_text())) - {"NAME", "NAME DATA --out MODEL"})
RENDERS = sorted(set(re.findall(r"`render ([^`]+)`", PAGE.read_text())))
TAKES_A_FOLDER = {"--no-copies-of": ["REAL"]}  # named on the page without its value


def test_the_page_has_the_systems_of_three_tables():
    text = PAGE.read_text()
    assert text.count("\n## Table") == 3
    assert len(re.findall(r"^\| \[\d+\] \|", text, re.MULTILINE)) >= 72
    assert "{" not in text.replace("{doc}", "")


@pytest.fixture(scope="module")
def places(request, tmp_path_factory):
    """Folders for the placeholders of the page."""
    recipe = build_recipe("ddpm", load_data(f"{__name__}:some_blobs"), tiny(sampling_steps=4))
    teacher = tmp_path_factory.mktemp("teacher") / "ddpm"
    save_synthesizer(recipe.synthesizer(recipe.networks), teacher)
    return {"MODEL": str(teacher), "PIPELINE": str(request.getfixturevalue("pipeline"))}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run(command, places, tmp_path, monkeypatch):
    monkeypatch.setattr("torchgenaug.cli.dry_run._TIMED", 1)
    monkeypatch.setattr("torchgenaug.cli.dry_run._draw", lambda train, picture: "")
    family, *rest = [places.get(word, word) for word in command.split()]
    data = {"slices": "slabs", "lora": "small_blobs"}.get(family, "some_blobs")
    chosen = [] if family in ("progressive", "lora") else ["--width", "4"]
    arguments = ["fit", family, f"{__name__}:{data}", "--out", str(tmp_path / "model"), "--dry-run", *chosen, *rest]
    about = describe_family(family)
    result = CliRunner().invoke(app, [*arguments, "--batch-size", "2"])
    assert result.exit_code == 0, result.output
    assert "M parameters" in result.output
    assert f"{about.steps} steps" in result.output
    assert not (tmp_path / "model").exists()


def some_blobs():
    """Images that have all fields."""
    return blobs(8)


def small_blobs():
    """Images of the pipeline's size."""
    return blobs(8, (8, 8))


def slabs():
    """Volumes."""
    return blobs(8, (8, 8, 4))


@pytest.mark.parametrize("command", RENDERS)
def test_its_renders_can_be_given(command):
    parsed("render", ["model", "--out", "shards", "--count", "8", *command.split(), *TAKES_A_FOLDER.get(command, [])])


def parsed(name, arguments):
    command = typer.main.get_command(app).commands[name]
    return command.make_context(name, arguments).params


def test_its_classes_exist():
    for name in set(re.findall(r"`(\w+Synthesizer)`", PAGE.read_text())):
        assert hasattr(torchgenaug, name)
