from __future__ import annotations

import pytest
import typer

from torchgenaug.cli import app, panels


@pytest.mark.parametrize(("name", "groups"), [("fit", panels.FIT), ("render", panels.RENDER)])
def test_every_option_stands_in_a_panel(name, groups):
    command = typer.main.get_command(app).commands[name]
    options = {param.name: param.rich_help_panel for param in command.params if param.param_type_name == "option"}
    assert {name for name, panel in options.items() if panel is None} <= {"help"}
    assert set(options.values()) - {None} == set(groups)
    assert all(options[parameter] == heading for heading, names in groups.items() for parameter in names.split())
