"""The README's examples run as they stand, as scripts, and its two commands are the ones that CI runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs_as_a_script(number, tmp_path):
    (tmp_path / "example.py").write_text(EXAMPLES[number])
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "example.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = ("SyntheticMixDataset(", "torch.Size([8, 1, 64, 64])")[number]
    assert printed in done.stdout, done.stdout


def test_first_example_is_short():
    assert len(EXAMPLES[0].splitlines()) <= 14


def test_readme_is_short():
    assert len(README.read_text().splitlines()) <= 200


def test_the_two_commands_stand_there_once():
    commands = re.findall(r"^pip install -c constraints\.txt .*", README.read_text(), flags=re.MULTILINE)
    assert commands == [
        'pip install -c constraints.txt -e ".[demo]" && torchgenaug demo',
        'pip install -c constraints.txt -e ".[test]" && pytest',
    ]
