from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_every_case_names_a_test_that_exists():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| [0-9]", line)]
    numbers = {int(number) for row in rows for number in row.split("|")[1].split(",")}
    assert numbers == {*range(1, 41)}
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for path, name in named:
            tree = ast.parse((ROOT / path).read_text())
            assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, (path, name)


def test_commands_name_files_that_exist():
    for path in re.findall(r"(?:python|pytest[^`]*) (tests/[\w/]+\.py)", PAGE):
        assert (ROOT / path).exists(), path
