"""Every command on the page of the review's systems names a family, conditions and settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

import torchgenaug
from torchgenaug.cli import app
from torchgenaug.recipes.build import describe_family
from torchgenaug.recipes.settings import parse_settings

PAGE = Path(__file__).parents[2] / "docs" / "review-systems.md"
COMMANDS = sorted(set(re.findall(r"`fit ([^`]+)`", PAGE.read_text())) - {"NAME", "NAME DATA --out MODEL"})
RENDERS = sorted(set(re.findall(r"`render ([^`]+)`", PAGE.read_text())))
TAKES_A_FOLDER = {"--no-copies-of": ["REAL"]}  # named on the page without its value


def test_the_page_has_the_systems_of_three_tables():
    text = PAGE.read_text()
    assert text.count("\n## Table") == 3
    assert len(re.findall(r"^\| \[\d+\] \|", text, re.MULTILINE)) >= 72
    assert "{" not in text.replace("{doc}", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_can_be_given(command):
    family, *rest = command.split()
    given = parsed("fit", [family, "digits", "--out", "model", *rest])
    about = describe_family(family)
    assert given["condition"].value in ("none", *about.conditions)
    parse_settings(family, about.settings, list(given["chosen"]))
    assert about.with_mask or not given["with_mask"]
    assert about.pretrained == (given["start"] is not None)
    assert about.teacher == (given["teacher"] is not None)


@pytest.mark.parametrize("command", RENDERS)
def test_its_renders_can_be_given(command):
    parsed("render", ["model", "--out", "shards", "--count", "8", *command.split(), *TAKES_A_FOLDER.get(command, [])])


def parsed(name, arguments):
    command = typer.main.get_command(app).commands[name]
    return command.make_context(name, arguments).params


def test_its_classes_exist():
    for name in set(re.findall(r"`(\w+Synthesizer)`", PAGE.read_text())):
        assert hasattr(torchgenaug, name)
