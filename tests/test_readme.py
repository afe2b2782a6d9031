"""The README's examples run as they stand, the first one as a script, and its two commands are those that CI runs."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from tests import interpreter
from torchgenaug import demo

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_first_example_runs_as_a_script(tmp_path, monkeypatch, quick_weights):
    monkeypatch.setattr(demo, "WEIGHTS", quick_weights)  # the second one runs the model as it is
    (tmp_path / "example.py").write_text(EXAMPLES[0])
    done = interpreter.run(["example.py"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SyntheticMixDataset(" in done.stdout, done.stdout
    assert "Warning" not in done.stderr


def test_second_example_runs(tmp_path, monkeypatch):
    """In this process, which has imported what it needs."""
    monkeypatch.chdir(tmp_path)
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        exec(compile(EXAMPLES[1], "README.md", "exec"), {"__name__": "readme"})
    assert "torch.Size([8, 1, 64, 64])" in stdout.getvalue()


def test_there_are_two_examples():
    assert len(EXAMPLES) == 2


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
