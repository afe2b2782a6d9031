"""Docstrings are written to be read in an editor; this makes reStructuredText of them, before napoleon reads them.

A star or bar in running text, as in ``(n, *shape)``, is no markup; single backticks around code that is no name are
double ones; and ``seeds`` between backticks may be followed by letters.
"""

from __future__ import annotations

import re
from typing import Any

_CODE = re.compile(r"(``.+?``|`[^`]+`)")
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_STAR = re.compile(r"(?<!\*)\*(?!\*)(?=\S)|(?<=[\w])\*(?!\*)")


def as_rest(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Rewrites `lines` in place; a handler of ``autodoc-process-docstring``."""
    text = "\n".join(lines)
    parts = re.split(r"((?:^ *(?:>>>|\.\.\.) .*\n(?:(?! *$|.*>>> ).*\n?)*)+)", text, flags=re.MULTILINE)
    lines[:] = "".join(part if k % 2 else _prose(part) for k, part in enumerate(parts)).split("\n")


def _prose(text: str) -> str:
    pieces = _CODE.split(text)
    for k, piece in enumerate(pieces):
        if k % 2 == 0:
            pieces[k] = _STAR.sub(r"\\*", piece).replace("|", r"\|")
            if k and re.match(r"\w", piece):
                pieces[k] = r"\ " + pieces[k]
            continue
        code = piece.strip("`")
        if not piece.startswith("``") and not _NAME.fullmatch(code):
            pieces[k] = f"``{' '.join(code.split())}``"
    return "".join(pieces)
