"""Settings of one family: checked by name, type and limits, wherever they come from."""

from __future__ import annotations

import pytest
from fit_helpers import blobs, tiny

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.build import build_recipe, describe_family, list_families
from torchgenaug.recipes.settings import Setting, checked_settings, parse_settings

KNOWN = {
    "flag": Setting(False, "a switch"),
    "count": Setting(3, "a count", low=1),
    "part": Setting(0.5, "a fraction", low=0, high=1),
    "kind": Setting("plain", "a name", choices=("plain", "fancy")),
}


def test_defaults_and_types():
    assert checked_settings("dragon", KNOWN, {}) == {"flag": False, "count": 3, "part": 0.5, "kind": "plain"}
    parsed = parse_settings("dragon", KNOWN, ["flag=true", "count=7", "part=1", "kind=fancy"])
    assert parsed == {"flag": True, "count": 7, "part": 1, "kind": "fancy"}
    made = checked_settings("dragon", KNOWN, parsed)
    assert [type(made[name]) for name in KNOWN] == [bool, int, float, str]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flag=yes", "`flag` must be true or false for dragon, got 'yes'"),
        ("flag=1", "`flag` must be true or false"),
        ("count=0", "`count` must be a whole number ≥ 1 for dragon, got 0"),
        ("count=1.5", "`count` must be a whole number"),
        ("part=2", "`part` must be a number from 0 to 1 for dragon, got 2"),
        ("part=nan", "`part` must be a number from 0 to 1 for dragon, got nan"),
        ("kind=odd", "`kind` must be one of plain, fancy for dragon, got 'odd'"),
        ("flags=true", "Did you mean 'flag'?"),
        ("flag", "`--set` must be name=value"),
    ],
)
def test_what_a_setting_cannot_be(text, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_settings("dragon", KNOWN, [text])


def test_a_setting_twice():
    with pytest.raises(ConfigurationError, match="got 'flag' twice"):
        parse_settings("dragon", KNOWN, ["flag=true", "flag=false"])


def test_a_value_that_is_no_value_of_its_type():
    for value in (None, [1], "0.5", True):
        with pytest.raises(ConfigurationError, match="`part` must be a number"):
            checked_settings("dragon", KNOWN, {"part": value})


def test_a_family_refuses_the_settings_of_others():
    with pytest.raises(ConfigurationError, match="left out: ddpm has no settings, got 'dragon'"):
        build_recipe("ddpm", blobs(), tiny(settings={"dragon": True}))


def test_every_default_is_one_that_the_family_accepts():
    for family in list_families():
        for name, setting in describe_family(family).settings.items():
            assert setting.accepts(setting.default), f"{family}: {name}"
            assert setting.text
