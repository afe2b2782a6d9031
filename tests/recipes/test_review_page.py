"""Every command on the page of the review's systems names a family, conditions and settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import torchgenaug
from torchgenaug.recipes.build import describe_family, list_families
from torchgenaug.recipes.settings import parse_settings

PAGE = Path(__file__).parents[2] / "docs" / "review-systems.md"
COMMANDS = sorted(set(re.findall(r"`fit ([^`]+)`", PAGE.read_text())) - {"NAME", "NAME DATA --out MODEL"})
VALUE = re.compile(r"--condition (\w+)|--set (\S+)|--with-mask|--from (\S+)|--teacher (\S+)")


def test_the_page_has_the_systems_of_three_tables():
    text = PAGE.read_text()
    assert text.count("\n## Table") == 3
    assert len(re.findall(r"^\| \[\d+\] \|", text, re.MULTILINE)) >= 72
    assert "{" not in text.replace("{doc}", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_can_be_given(command):
    family, *rest = command.split()
    assert family in list_families()
    about = describe_family(family)
    options = " ".join(rest)
    assert not VALUE.sub("", options).strip(), f"unknown options in {options!r}"
    for condition, setting, *_ in VALUE.findall(options):
        if condition:
            assert condition in about.conditions
        if setting:
            parse_settings(family, about.settings, [setting])
    if "--with-mask" in options:
        assert about.with_mask


def test_its_classes_exist():
    for name in set(re.findall(r"`(\w+Synthesizer)`", PAGE.read_text())):
        assert hasattr(torchgenaug, name)
