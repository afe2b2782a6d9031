"""The section of a data card or a model card that states how its images were judged by ``torchgenaug evaluate``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TITLE, _BEFORE = "## Evaluation", "## Intended use"
_NOT_YET = (
    "- They were not evaluated when this card was written: `torchgenaug evaluate`.\n",
    "`torchgenaug evaluate` compares many more images and judges them; nothing of that entered this card.\n\n",
)
_MOST_REASONS = 8


def evaluation_section(report: Mapping[str, Any], about: str) -> str:
    """Verdict, reasons and measures as Markdown.

    Args:
        report: what ``report.json`` holds.
        about: fingerprint and count of the images, by which `find_section` knows whether it is of these.
    """
    reasons = "\n".join(f"- {reason}" for reason in report["reasons"][:_MOST_REASONS])
    counts = ", ".join(f"{number:,} {name.replace('_', '-')}" for name, number in report["counts"].items())
    rows = "\n".join(_row(each) for each in report["measures"].values())
    copies = report["copies"]
    found = (
        "Copies of training images could not be judged."
        if copies["found"] is None
        else f"Copies of training images: {copies['found']} found, {copies['expected_by_chance']:.1f} by chance."
    )
    return f"""{_TITLE}

<!-- {about} -->
Verdict of `torchgenaug evaluate`: **{report["verdict"]}** (images: {counts}).

{reasons}

{found} {report["duplicates"]["share"]:.1%} of the images repeat another one.

| Measure | Value | 95 % interval | Real against real | n | Better |
|---|---|---|---|---|---|
{rows}

"""


def find_section(card: str, about: str) -> str:
    """The section of a card; empty where it has none, or one of other images."""
    section = _section_of(card)
    return section if f"<!-- {about} -->\n" in section else ""


def with_section(card: str, section: str) -> str:
    """The card with this section in the place of an earlier one, before the intended use."""
    if not section:
        return card
    old = _section_of(card)
    card = card.replace(old, "") if old else card
    for line in _NOT_YET:
        card = card.replace(line, "")
    head, mark, rest = card.partition(f"{_BEFORE}\n")
    return f"{head}{section}{mark}{rest}" if mark else f"{card.rstrip()}\n\n{section}"


def _section_of(card: str) -> str:
    found = re.search(rf"^{_TITLE}\n.*?(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    return found[0] if found else ""


def _row(result: Mapping[str, Any]) -> str:
    interval = f"{_number(result['low'])} to {_number(result['high'])}"
    name = str(result["name"]).replace("|", "\\|").replace("\n", " ")
    cells = [name, _number(result["value"]), interval, _number(result["floor"]), str(result["n"]), result["better"]]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
