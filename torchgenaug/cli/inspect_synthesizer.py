"""``torchgenaug inspect`` of a saved synthesizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def synthesizer_facts(path: Path) -> dict[str, Any]:
    """What a folder that `save_synthesizer` or `fit` wrote holds, JSON-ready; nothing is loaded but its index.

    Raises:
        SynthesizerLoadError: no such folder.
    """
    from torchgenaug.checksums import fits_checksum
    from torchgenaug.synthesizers import synthesizer_sha256
    from torchgenaug.synthesizers.parts.model_files import read_json

    pin = synthesizer_sha256(path)
    index = read_json(path / "synthesizer.json")
    return {"path": str(path), "sha256": pin, "damaged": not fits_checksum(index), "synthesizer": index}


def describe_synthesizer(facts: Mapping[str, Any]) -> list[str]:
    """The same as lines for people."""
    index = facts["synthesizer"]
    rows = {
        "family": index.get("family"),
        "fingerprint": index.get("fingerprint"),
        "sha256": f"{facts['sha256']}  (pin it from outside: load_synthesizer(path, sha256=…))",
        **({"damaged": "entries do not fit their checksum; it will not be loaded"} if facts["damaged"] else {}),
        "files": len(index.get("files") or ()),
        "settings": json.dumps(index.get("settings")),
        "trained on": "unknown" if index.get("trained_on") is None else json.dumps(index["trained_on"]),
    }
    # Escaped: a folder from elsewhere must not send commands to the terminal.
    return [f"{name:>12}  {_printable(str(value))}" for name, value in rows.items()]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
