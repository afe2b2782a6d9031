"""Writes the tutorials as notebooks, next to their pages: ``python docs/notebooks.py``.

A page is the source, and is executed by the tests; its notebook holds the same text, code and outputs (nbformat 4.5).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

TUTORIALS = Path(__file__).parent / "tutorials"

_FENCE = re.compile(r"^```(python|bash|output)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: [^>]+ -->\n$")
_DEMO_MODEL = "$(python -c 'from torchgenaug.demo import WEIGHTS; print(WEIGHTS)')"


def notebook(page: Path) -> str:
    """The notebook of a page, as text."""
    text = page.read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    cells = [
        _markdown(
            f"{title}\n\nThis notebook is the page `{page.name}` of the documentation. It needs `pip install "
            f'"torchgenaug[fit]"{" lightning" if "import lightning" in text else ""}`, and no GPU.'
        )
    ]
    end = 0
    for fence in _FENCE.finditer(rest):
        before, (language, code) = rest[end : fence.start()], fence.groups()
        not_run = _NOT_RUN.search(before)
        if language == "output":
            cells[-1]["outputs"].append({"name": "stdout", "output_type": "stream", "text": _lines(code)})
        else:
            cells += [_markdown(before)] if _NOT_RUN.sub("", before).strip() else []
            cells.append(_markdown(fence.group()) if not_run else _code(language, code))
        end = fence.end()
    cells += [_markdown(rest[end:])] if rest[end:].strip() else []
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    head = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    content = {"cells": cells, "metadata": head, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": _lines(_NOT_RUN.sub("", text).strip())}


def _code(language: str, code: str) -> dict[str, Any]:
    if language == "bash":
        code = "%%bash\n" + code.replace("@WEIGHTS", _DEMO_MODEL)
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": _lines(code.rstrip()),
    }


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    for path in sorted(TUTORIALS.glob("*.md")):
        path.with_suffix(".ipynb").write_text(notebook(path), encoding="utf-8")
