"""The examples of docs/trainers.md run as they are; each resumes in the middle of an epoch and compares to the bit."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import torchgenaug

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
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run(
        [sys.executable, *(launch if processes > 1 else []), FOLDER / f"{name}.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(torchgenaug.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "EXAMPLE_FOLDER": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "to the bit" in done.stdout or name in ("nnunet_folder", "da_fusion"), done.stdout


@pytest.mark.parametrize("name", sorted({path.stem for path in FOLDER.glob("*.py")} - set(PROCESSES)))
def test_runs(name, tmp_path):
    run(name, tmp_path, 1)


@pytest.mark.parametrize("name", PROCESSES)
def test_runs_in_two_processes(name, tmp_path):
    run(name, tmp_path, 2)


def test_the_page_shows_them_all():
    page = (FOLDER.parent / "trainers.md").read_text()
    assert [path.stem for path in FOLDER.glob("*.py") if path.name not in page] == []
