"""Reads the JSON files of model folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torchgenaug.errors import SynthesizerLoadError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SynthesizerLoadError(f"`path` must hold {path.name}, got {path.parent} without it.") from error
    except (OSError, ValueError) as error:
        raise SynthesizerLoadError(f"{path} must be a JSON file, got {error}. Save the model again.") from error
    if not isinstance(content, dict):
        raise SynthesizerLoadError(f"{path} must hold a JSON object, got {content!r:.40}. Save the model again.")
    return content
