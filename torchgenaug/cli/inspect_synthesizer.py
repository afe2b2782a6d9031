"""``torchgenaug inspect`` of a saved synthesizer."""

from __future__ import annotations

from pathlib import Path


def describe_synthesizer(path: Path) -> list[str]:
    """Lines on a folder that `save_synthesizer` or `fit` wrote; nothing in it is loaded but its index.

    Raises:
        SynthesizerLoadError: no such folder.
    """
    import json

    from torchgenaug.checksums import fits_checksum
    from torchgenaug.synthesizers import synthesizer_sha256
    from torchgenaug.synthesizers.parts.model_files import read_json

    pin = synthesizer_sha256(path)
    index = read_json(path / "synthesizer.json")
    rows = {
        "family": index.get("family"),
        "fingerprint": index.get("fingerprint"),
        "sha256": f"{pin}  (pin it from outside: load_synthesizer(path, sha256=…))",
        **({} if fits_checksum(index) else {"damaged": "entries do not fit their checksum; it will not be loaded"}),
        "files": len(index.get("files") or ()),
        "settings": json.dumps(index.get("settings")),
        "trained on": "unknown" if index.get("trained_on") is None else json.dumps(index["trained_on"]),
    }
    # Escaped: a folder from elsewhere must not send commands to the terminal.
    return [f"{name:>12}  {_printable(str(value))}" for name, value in rows.items()]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
