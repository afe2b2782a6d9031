"""The examples of docs/trainers.md run as they are; each resumes in the middle of an epoch and compares to the bit."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests import interpreter

FOLDER = Path(__file__).parents[2] / "docs" / "examples"
NEEDS = {
    "huggingface_trainer": "transformers",
    "lightning_module": "lightning",
    "monai_trainer": "ignite",
    "nnunet_folder": "nibabel",
}
PROCESSES = ("huggingface_trainer", "accelerate_loop", "distributed_loop", "fsdp_loop")


def run(name, tmp_path, processes):
    package = NEEDS.get(name)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "EXAMPLE_FOLDER": str(tmp_path)}
    script = [FOLDER / f"{name}.py"]
    if processes == 1:
        ends = [interpreter.run(script, cwd=tmp_path, env=environment)]
    else:
        ends = interpreter.run_ranks(script, processes, cwd=tmp_path, env=environment)
    assert [end.returncode for end in ends] == [0] * processes, "\n".join(end.stderr[-3000:] for end in ends)
    assert "to the bit" in ends[0].stdout or name in ("nnunet_folder", "da_fusion"), ends[0].stdout


@pytest.mark.parametrize("name", sorted({path.stem for path in FOLDER.glob("*.py")} - set(PROCESSES)))
def test_runs(name, tmp_path):
    run(name, tmp_path, 1)


@pytest.mark.parametrize("name", PROCESSES)
def test_runs_in_two_processes(name, tmp_path):
    run(name, tmp_path, 2)


def test_the_page_shows_them_all():
    page = (FOLDER.parent / "trainers.md").read_text()
    assert [path.stem for path in FOLDER.glob("*.py") if path.name not in page] == []
