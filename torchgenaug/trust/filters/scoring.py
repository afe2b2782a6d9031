"""The scores of all samples of a source, saved on the way, and the files that hold them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.checksums import read_entries, with_checksum
from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, StateMismatchError
from torchgenaug.types import Batch

Floats = npt.NDArray[np.float64]
_SAVED_EVERY = 64  # batches


def score_all(
    source: SyntheticSource, rule: Callable[[Batch], Tensor], fingerprint: str, batch_size: int, progress: Path | None
) -> tuple[Floats, bool]:
    """Scores of all samples, and whether they are yes or no; see `keep`.

    Args:
        source: the samples.
        rule: scores a batch.
        fingerprint: of the rule.
        batch_size: samples scored at a time.
        progress: file for the scores so far, in a folder that exists; None: none.
    """
    count = len(source)
    head = {"source": source.fingerprint, "length": count, "rule": fingerprint}
    done: list[float] = []
    is_bool: bool | None = None
    if progress is not None and progress.exists():
        saved = read_scores(progress, (*head, "bool", "scores"))
        if {key: saved.get(key) for key in head} != head:
            raise StateMismatchError(
                f"`progress` must hold scores of this source and rule, got {str(progress)!r} of others. Nothing was "
                "scored. Give another file, or delete this one."
            )
        done, is_bool = _checked_scores(saved["scores"], count, progress), saved["bool"] is True
    for number, start in enumerate(range(len(done), count, batch_size)):
        positions = np.arange(start, min(start + batch_size, count))
        given = _tensor_of(rule(source.read(positions)))
        if given is None or given.shape != (len(positions),) or not bool(given.double().isfinite().all()):
            raise ConfigurationError(
                f"`rule` must return one finite score for each of {len(positions)} samples, got "
                f"{'no numbers' if given is None else f'shape {tuple(given.shape)}'} for positions {start} to "
                f"{positions[-1]}. Nothing was kept. Return a tensor (n,): scores.flatten(1).mean(1)."
            )
        if is_bool is not None and is_bool != (given.dtype == torch.bool):
            raise ConfigurationError(
                f"`rule` must return scores for all batches, or yes and no for all, got {given.dtype} for positions "
                f"{start} to {positions[-1]} after the other. Nothing was kept. Return scores.float()."
            )
        is_bool = given.dtype == torch.bool
        done += given.double().tolist()
        if progress is not None and (number % _SAVED_EVERY == _SAVED_EVERY - 1 or len(done) == count):
            write_scores(progress, {**head, "bool": is_bool, "scores": done})
    return np.array(done, np.float64), is_bool is True


def _tensor_of(given: Any) -> Tensor | None:
    """What a rule returned as a tensor on the CPU; None where these are no real numbers."""
    try:
        tensor = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        return None
    return None if tensor.is_complex() else tensor


def _checked_scores(scores: Any, most: int, path: Path) -> list[float]:
    known = isinstance(scores, list) and len(scores) <= most and all(is_number(each) for each in scores)
    if not known:
        raise unreadable(path, ValueError("scores that no filter writes"))
    return list(map(float, scores))


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def read_scores(path: Path, entries: Iterable[str]) -> dict[str, Any]:
    """The entries of a file of scores; `StateMismatchError` where one is missing or the file is damaged."""
    try:
        saved = read_entries(path)
        if missing := sorted(set(entries) - saved.keys()):
            raise ValueError(f"no {', '.join(missing)} in it")
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    return saved


def unreadable(path: Path, error: Exception) -> StateMismatchError:
    """The error for a file that is none of a filter."""
    return StateMismatchError(
        f"{path} must hold scores of a filter, got {error}. Nothing was kept. Filter anew, under another name: "
        "keep(source, rule, best=0.5)."
    )


def write_scores(path: Path, content: dict[str, Any]) -> Path:
    """Writes under another name first: an interrupted write leaves the old file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(with_checksum(content)))
    temporary.replace(path)
    return path
