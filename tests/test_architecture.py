"""The house rules that a machine can check: imports go down the floors, and importing the package stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import torchgenaug

ROOT = Path(torchgenaug.__file__).parent
FLOORS = {
    "errors": 0,
    "types": 0,
    "seeding": 0,
    "matching": 1,
    "plan": 1,
    "plan_arguments": 1,
    "contracts": 1,
    "same_type": 1,
    "samples": 1,
    "screens": 2,
    "sequence": 2,
    "memory_retry": 2,
    "conditions": 2,
    "nets": 2,
    "synthesizers": 2,
    "shards": 3,
    "pool": 3,
    "transforms": 2,
    "intensity": 2,
    "map_source": 2,
    "sample_mixer": 3,
    "provenance": 3,
    "missing": 4,
    "pictures": 2,
    "dataset": 4,
    "loader": 4,
    "lightning": 5,
    "recipes": 5,
    "testing": 5,
    "demo": 5,
    "tasks": 6,
    "cli": 7,
}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem != "__init__")


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("torchgenaug"):
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
            rooms |= {name for name in names if name in FLOORS}
        elif isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("torchgenaug.")}
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    room = room_of(path)
    assert room in FLOORS, f"{room} has no floor: add it to FLOORS"
    above = {
        other for other in imported_rooms(path) if other != room and FLOORS[other] >= FLOORS[room] and FLOORS[room]
    }
    sideways = {other for other in above if FLOORS[other] == FLOORS[room]}
    assert not above - sideways, f"{path.name} imports from the floor above: {above - sideways}"


def test_rooms_of_one_floor_do_not_import_each_other_in_a_circle():
    edges = {}
    for path in MODULES:
        edges.setdefault(room_of(path), set()).update(imported_rooms(path) - {room_of(path)})
    done: set[str] = set()
    while len(done) < len(edges):
        free = {room for room in edges if room not in done and edges[room] <= done}
        assert free, f"circular imports among {sorted(set(edges) - done)}"
        done |= free


@pytest.mark.parametrize(
    "path", [p for p in MODULES if "h5py" in p.read_text()], ids=lambda p: str(p.relative_to(ROOT))
)
def test_only_shards_import_h5py(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    assert "h5py" not in names or room_of(path) == "shards"


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout


def test_importing_is_cheap():
    """Neither the package nor its core needs diffusers, h5py or torchio before they are used."""
    code = """
import sys, torchgenaug
from torchgenaug import MixPlan, SyntheticMixDataset, SyntheticPool, SyntheticSequence, FieldSpec
from torchgenaug import ClassLabels, render_shards
print([name for name in ("diffusers", "h5py", "torchio", "torchvision", "matplotlib", "scipy", "transformers", "rich")
       if name in sys.modules])
"""
    assert run_python(code).strip() == "[]"


def test_every_public_name_is_there():
    for name in torchgenaug.__all__:
        assert getattr(torchgenaug, name) is not None
    assert "SyntheticMixDataset" in dir(torchgenaug)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = torchgenaug.nothing


def test_public_names_are_the_agreed_ones():
    assert set(torchgenaug.__all__) >= {
        "DiffusersSynthesizer",
        "FieldSpec",
        "FunctionSynthesizer",
        "ModuleSynthesizer",
        "ShardSource",
        "SyntheticMixDataset",
        "SyntheticMixLoader",
        "SyntheticPool",
        "SyntheticSequence",
        "load_synthesizer",
        "render_shards",
        "save_synthesizer",
    }


def test_names_of_test_files_are_unique():
    """pytest imports them by their bare names: two of the same name, in whatever folders, stop the whole run."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)
