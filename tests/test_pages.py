"""The README and every page of the documentation: examples run and print what stands below them, names exist.

Blocks of a page run in their order, in one folder and one namespace. ``python`` blocks are executed and ``bash`` blocks
called, in this process; an ``output`` block holds what the block above it prints, with ``...`` for anything. A block
below ``<!-- not run: reason -->``, and a command with a placeholder such as FOLDER, is only parsed.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from torchgenaug import demo
from torchgenaug.cli import app

FORK = multiprocessing.get_context("fork")
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md") if "names" not in path.parts)
FENCE = re.compile(
    r"(?:^ *<!-- not run: (?P<reason>[^>]+) -->\n)?^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
PLACEHOLDER = re.compile(r"(?<![@\w-])[A-Z]{3,}(?!\w)")
LOOKS_ALIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page):
    for found in FENCE.finditer((ROOT / page).read_text(encoding="utf-8")):
        code = re.sub(rf"^{found['indent']}", "", found["code"], flags=re.MULTILINE)
        yield found["language"], code, found["reason"]


def call(line):
    """What a line of a shell prints."""
    words = [str(demo.WEIGHTS) if word == "@WEIGHTS" else word for word in shlex.split(line, comments=True)]
    if words[0] == "torchgenaug":
        result = CliRunner().invoke(app, words[1:])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, f"{line}\n{result.output}"
        return result.output
    assert words[:2] == ["torchrun", "--nproc_per_node"], f"only torchgenaug and torchrun are called here, not {line!r}"
    assert words[3:5] == ["-m", "torchgenaug.cli"]
    ranks = [FORK.Process(target=as_rank, args=(rank, int(words[2]), words[5:])) for rank in range(int(words[2]))]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join(240)
    assert [each.exitcode for each in ranks] == [0] * len(ranks)
    return ""


def as_rank(rank, world_size, words):
    """What a process of torchrun does, without its imports. (``tests/shards/test_ranks.py`` calls torchrun itself.)"""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    result = CliRunner().invoke(app, words)
    os._exit(result.exit_code)


@pytest.fixture
def module(tmp_path, monkeypatch, quick_weights):
    """An empty module in an empty folder, so that what an example defines can be pickled and forked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "WEIGHTS", quick_weights)
    monkeypatch.setenv("TORCHGENAUG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    made = types.ModuleType("torchgenaug_page")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    before = set(sys.modules)
    yield made
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(each[0] in ("python", "bash") for each in blocks(page))]
)
@pytest.mark.filterwarnings(
    "ignore::torchgenaug.errors.SmallSampleWarning",  # examples are small
    "ignore:.*LeafSpec.*:FutureWarning",  # Lightning's own use of torch
)
def test_page_runs(page, module):
    printed = ""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for language, code, reason in blocks(page):
            if language == "python" and reason is None:
                stdout = io.StringIO()
                with contextlib.redirect_stdout(stdout):
                    exec(compile(code, page, "exec"), vars(module))
                printed = stdout.getvalue()
            elif language == "bash" and reason is None and not PLACEHOLDER.search(code):
                printed = "".join(call(line) for line in code.replace("\\\n", " ").splitlines() if line.strip())
            elif language == "output":
                same = doctest.OutputChecker().check_output(code, printed, LOOKS_ALIKE)
                assert same, f"{page}: printed\n{printed}\nin place of\n{code}"
            elif language == "python":
                compile(code, page, "exec")
            elif language == "bash":
                subprocess.run(["bash", "-n"], input=code, text=True, check=True)


def test_blocks_are_of_known_languages():
    for page in [*PAGES, "README.md"]:
        for language, _, _ in blocks(page):
            assert language in ("python", "bash", "output", "text", "", "toctree", "include"), f"{page}: {language}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES])
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http", "names/")):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"


def test_every_test_that_the_guarantees_name_exists():
    rows = re.findall(r"\| (`tests/[^|]*) \|", (DOCS / "guarantees.md").read_text(encoding="utf-8"))
    assert len(rows) > 40
    for cell in rows:
        current = None
        for name in re.findall(r"`([^`]+)`", cell):
            path, _, function = name.partition("::")
            if path:
                current = ROOT / path
                assert current.exists(), path
            if function:
                assert current is not None
                assert f"def {function}(" in current.read_text(), name


def test_reference_has_a_page_for_every_public_name(tmp_path, monkeypatch):
    import torchgenaug

    monkeypatch.syspath_prepend(str(DOCS))
    import public_names

    public_names.write_pages(tmp_path / "names")
    pages = {path.stem for path in tmp_path.rglob("*.md")}
    assert set(torchgenaug.__all__) <= pages
    assert {"AnalyticSynthesizer", "ConfigurationError", "SetEpoch", "fit", "FID"} <= pages


@pytest.mark.parametrize("page", sorted((DOCS / "tutorials").glob("*.md")), ids=lambda path: path.stem)
def test_notebooks_are_those_of_the_pages(page, monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    from notebooks import notebook

    stored = page.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert notebook(page) == stored, "write them again: python docs/notebooks.py"
    cells = json.loads(stored)["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    of_page = [
        each
        for language, each, reason in blocks(page.relative_to(ROOT))
        if language in ("python", "bash") and not reason
    ]
    assert len(code) == len(of_page) > 1
    assert all(
        mine.startswith("%%bash\n") or mine == theirs.rstrip() for mine, theirs in zip(code, of_page, strict=True)
    )
    assert any(cell.get("outputs") for cell in cells)
