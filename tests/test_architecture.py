"""The house rules that a machine can check: imports go down the floors, and importing the package stays cheap."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

import torchgenaug
from tests import clean_interpreter

ROOT = Path(torchgenaug.__file__).parent
PACKAGE = "torchgenaug"
FLOORS = {
    "errors": 0,
    "lazy": 0,
    "progress": 0,
    "devices": 0,
    "types": 1,
    "bare_names": 1,
    "checksums": 1,
    "local_paths": 1,
    "whole_files": 1,
    "seeding": 1,
    "texts": 1,
    "pseudonyms": 1,
    "contracts": 2,
    "plan": 2,
    "file_locks": 2,
    "pictures": 2,
    "samples": 3,
    "screens": 3,
    "nets": 3,
    "datasets": 3,
    "sequence": 4,
    "conditions": 4,
    "synthesizers": 5,
    "sources": 5,
    "shards": 6,
    "metrics": 6,
    "pool": 7,
    "trust": 7,
    "export": 7,
    "mixing": 8,
    "trainers": 9,
    "lightning": 10,
    "testing": 9,
    "recipes": 9,
    "study": 11,
    "demo": 11,
    "tasks": 12,
    "cli": 13,
    "__main__": 14,
}
"""Rooms and their floors: a file imports from its own room and from floors below."""

FAMILIES = ("diffusion", "monai", "pythae", "module")
"""Rooms of `synthesizers` that share `parts` and nothing else."""

FILES = {
    ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imports_of(path: Path) -> set[str]:
    """The modules of this package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            both = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= both & set(FILES) or {node.module} & set(FILES)
            if not both <= set(FILES):
                found |= {node.module} & set(FILES)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & set(FILES)
    return found


@functools.cache
def all_imports() -> dict[str, set[str]]:
    """By module; not while tests are collected, which each process of pytest-xdist does."""
    return {name: imports_of(path) - {name} for name, path in FILES.items()}


def room_of(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", sorted(set(FILES) - {PACKAGE}))
def test_imports_go_down(module):
    room = room_of(module)
    assert room in FLOORS, f"{room} has no floor: add it to FLOORS"
    above = {
        other
        for other in all_imports()[module] - {PACKAGE}
        if room_of(other) != room and FLOORS[room_of(other)] >= FLOORS[room]
    }
    assert not above, f"{module} imports from its own floor or above: {sorted(above)}"


def test_the_library_does_not_import_its_own_public_face():
    """Names come from where they are defined; the package's ``__init__`` is for users (and for what is built on it)."""
    users = {"demo", "tasks", "cli", "datasets"}
    assert not {name for name, others in all_imports().items() if PACKAGE in others and room_of(name) not in users}


def test_no_files_import_each_other_in_a_circle():
    done: set[str] = set()
    waiting = dict(all_imports())
    while waiting:
        free = {name for name, others in waiting.items() if others - {PACKAGE} <= done}
        assert free, f"circular imports among {sorted(waiting)}"
        done |= free
        waiting = {name: others for name, others in waiting.items() if name not in free}


A_FAMILY_IN_ANOTHER = {("torchgenaug.synthesizers.monai.one_pass", "torchgenaug.synthesizers.module.synthesizer")}
"""A bundle may hold a GAN, whose synthesizer is the one of any generator."""


@pytest.mark.parametrize("family", FAMILIES)
def test_synthesizer_families_import_parts_only(family):
    home = f"{PACKAGE}.synthesizers"
    for module in FILES:
        if module.startswith(f"{home}.{family}"):
            inside = {other for other in all_imports()[module] if other.startswith(home)}
            inside -= {other for importer, other in A_FAMILY_IN_ANOTHER if importer == module}
            foreign = {other for other in inside if not other.startswith((f"{home}.{family}", f"{home}.parts"))}
            assert not foreign, f"{module} imports {sorted(foreign)}"


def test_parts_import_no_family():
    home = f"{PACKAGE}.synthesizers"
    for module in FILES:
        if module.startswith(f"{home}.parts"):
            inside = {other for other in all_imports()[module] if other.startswith(home)}
            assert all(other.startswith(f"{home}.parts") for other in inside), f"{module} imports {sorted(inside)}"


A_FOLDER_BY_ITS_PATH = {("torchgenaug.pool.making.supply", "torchgenaug.shards")}
"""`SyntheticPool(shards=…)` also takes the path of a render, and opens it."""


HELPERS = {"torchgenaug.sources.dataset", "torchgenaug.sources.positions"}
"""What every source shares; no kind of source."""


@pytest.mark.parametrize("room", ["mixing", "pool"])
def test_sources_are_known_through_contracts_only(room):
    """Neither names a kind of source: whatever fulfils the contract fits."""
    for module in FILES:
        if room_of(module + ".") == room:
            kinds = {
                other for other in all_imports()[module] if room_of(other) in {"shards", "sources", "pool"} - {room}
            }
            kinds -= {other for importer, other in A_FOLDER_BY_ITS_PATH if importer == module} | HELPERS
            assert not kinds, f"{module} imports {sorted(kinds)}"


def test_the_library_knows_nothing_of_what_is_built_on_it():
    built_on_it = {"demo", "tasks", "cli", "__main__"}
    for module in FILES:
        if room_of(module + ".") not in built_on_it:
            assert not {other for other in all_imports()[module] if room_of(other + ".") in built_on_it}, module


MOST_LINES = 300
"""Docstrings included; a module that is longer holds two concepts."""


def test_modules_stay_short():
    long = {name: lines for name, path in FILES.items() if (lines := path.read_text().count("\n")) > MOST_LINES}
    assert not long


def test_only_shards_and_the_reader_of_users_files_import_h5py():
    for module, path in FILES.items():
        text = path.read_text()
        may = room_of(module + ".") == "shards" or module == "torchgenaug.recipes.data.readers.containers"
        if "h5py" in text and not may:
            names = {
                name.split(".")[0]
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Import | ast.ImportFrom)
                for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
            }
            assert "h5py" not in names, module


def run_python(code: str) -> str:
    done = clean_interpreter.run(["-c", code])
    assert done.returncode == 0, done.stderr
    return done.stdout


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


PUBLIC = (Path(__file__).parent / "public_names.txt").read_text().split()
"""Every name that users may import from the package. A name is added on purpose, and removed only with a warning."""


def test_public_names_are_the_agreed_ones():
    assert sorted(torchgenaug.__all__) == sorted(PUBLIC)


def test_names_of_test_files_are_unique():
    """pytest imports them by their bare names: two of the same name, in whatever folders, stop the whole run."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)
