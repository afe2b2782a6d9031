"""`keep`: the samples of a source that a rule accepts; sample k stays sample k."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.checksums import read_entries, with_checksum
from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, StateMismatchError
from torchgenaug.shards.filter_record import record_filter
from torchgenaug.shards.format import MANIFEST_NAME
from torchgenaug.sources.selected import SelectedSource
from torchgenaug.trust.filters.rules import Rule, rule_digest
from torchgenaug.types import Batch

Floats = npt.NDArray[np.float64]
KEPT_NAME = "kept.json"
_SAVED_EVERY = 64  # batches


class KeptSource(SelectedSource):
    """The samples that a rule accepted, with the scores of all. Made by `keep` and `load_kept`.

    Ids, seeds and fingerprint stay those of the source, so provenance names the very sample.

    Attributes:
        scores: (len(source),) float64, of all samples.
        rule: fingerprint of the rule.
        condition: what a score had to fulfil, as text.
    """

    def __init__(self, source: SyntheticSource, positions: npt.ArrayLike, scores: Floats, rule: str, condition: str):
        super().__init__(source, positions)
        self.scores, self.rule, self.condition = scores, rule, condition

    def scores_at(self, positions: npt.NDArray[np.int64]) -> Floats:
        """The scores of kept samples; they stand in the provenance of a mix as ``score``, with ``acceptance_rate``."""
        return self.scores[self._there(positions)]

    @property
    def acceptance_rate(self) -> float:
        """Fraction of the samples that was kept."""
        return len(self) / len(self.scores)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes positions, scores, rule and acceptance rate as JSON; `load_kept` reads them.

        Args:
            path: a file, or the folder of the shards that were filtered, into which ``kept.json`` is written; their
                manifest then has an entry ``filter`` with the acceptance rate, the range of the scores, and the name
                and sha256 of the file that holds all of them.
        """
        file = _write(
            _file(path),
            {
                "source": self.source.fingerprint,
                "length": len(self.source),
                "rule": self.rule,
                "condition": self.condition,
                "acceptance_rate": self.acceptance_rate,
                "positions": self.positions.tolist(),
                "scores": self.scores.tolist(),
            },
        )
        if Path(path).is_dir() and (Path(path) / MANIFEST_NAME).exists():
            record_filter(Path(path), self._record(file))
        return file

    def _record(self, file: Path) -> dict[str, Any]:
        least, median, largest = np.quantile(self.scores, (0, 0.5, 1)).tolist()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return {
            "rule": self.rule,
            "condition": self.condition,
            "kept": len(self),
            "acceptance_rate": self.acceptance_rate,
            "scores": {"min": least, "median": median, "max": largest, "file": file.name, "sha256": digest},
        }

    def __repr__(self) -> str:
        return f"KeptSource({len(self)} of {len(self.scores)} samples, {self.condition}, {self.source!r})"


def keep(
    source: SyntheticSource,
    rule: Rule | Callable[[Batch], Tensor],
    *,
    above: float | None = None,
    best: float | None = None,
    within: str | None = None,
    batch_size: int = 64,
    progress: str | os.PathLike[str] | None = None,
) -> KeptSource:
    """The samples that a rule accepts. Deterministic; the order and the ids of the samples stay.

    Compare with a random selection of equal size before you believe that a filter helps.

    Args:
        source: one whose content does not change: a `ShardSource`, not a pool.
        rule: a `Rule`, or a function batch → (n,) scores, higher is better, or (n,) bool. Must judge each sample by
            itself.
        above: keep scores of at least this.
        best: keep this fraction of the samples, those with the highest scores, in (0, 1]; ties by position.
        within: an integer field, such as ``"label"``: `best` is then taken within each of its values, so that the class
            balance stays.
        batch_size: samples scored at a time.
        progress: file for the scores so far: an interrupted call goes on from there.

    Returns:
        The kept samples as a source, with all scores and the acceptance rate.

    Raises:
        ConfigurationError: neither or both of `above` and `best` for scores; scores that are not finite or not one per
            sample; a source that changes from epoch to epoch.
        EmptyDatasetError: no sample is accepted.
        StateMismatchError: `progress` is of another source or rule.

    Example:
        >>> from torchgenaug import SyntheticSequence
        >>> from torchgenaug.testing import AnalyticSynthesizer, InMemorySource
        >>> source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8))), 20)
        >>> kept = keep(source, lambda batch: batch["image"].flatten(1).mean(1), best=0.25)
        >>> len(kept), kept.acceptance_rate
        (5, 0.25)
    """
    if not callable(rule):
        raise ConfigurationError(
            f"`rule` must be a Rule or a function batch -> scores, got {type(rule).__name__}. For example "
            "ClassifierConfidence(classifier)."
        )
    if above is not None and best is not None:
        raise ConfigurationError("`above` and `best` must not be given together. Leave one of them out.")
    if best is not None and not 0 < best <= 1:
        raise ConfigurationError(f"`best` must be a fraction in (0, 1], got {best!r}. For example best=0.5.")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigurationError(f"`batch_size` must be an integer of at least 1, got {batch_size!r}.")
    SelectedSource(source, [0])  # refuses a source that changes
    fingerprint = fingerprint_of(rule)
    scores, is_bool = _scored(source, rule, fingerprint, batch_size, None if progress is None else Path(progress))
    if not is_bool and above is None and best is None:
        raise ConfigurationError(
            "`above` or `best` must say which scores to keep. For example keep(source, rule, best=0.5)."
        )
    if best is not None:
        accepted, condition = _best(scores, best, None if within is None else source.column(within).numpy()), ""
        condition = f"best {best:g}" + ("" if within is None else f" within each {within}")
    else:
        threshold = 1.0 if above is None else float(above)
        accepted, condition = scores >= threshold, f"score >= {threshold:g}"
    if not accepted.any():
        raise EmptyDatasetError(
            f"`rule` must accept at least one of {len(scores)} samples, got none: scores are {scores.min():.3g} to "
            f"{scores.max():.3g}. Lower `above`, or keep the best ones: keep(source, rule, best=0.5)."
        )
    return KeptSource(source, np.flatnonzero(accepted), scores, fingerprint, condition)


def load_kept(source: SyntheticSource, path: str | os.PathLike[str]) -> KeptSource:
    """Reads what `KeptSource.save` or ``torchgenaug render --keep`` wrote.

    Args:
        source: the source that was filtered.
        path: the file, or the folder of shards that holds ``kept.json``.

    Raises:
        StateMismatchError: it is of another source, or damaged.
    """
    saved = _read(_file(path), ("source", "length", "rule", "condition", "positions", "scores"))
    if (saved["source"], saved["length"]) != (source.fingerprint, len(source)):
        raise StateMismatchError(
            f"`source` must be the one that was filtered, {saved['length']} samples of {saved['source'][:12]}…, got "
            f"{len(source)} of {source.fingerprint[:12]}…. Filter this one: keep(source, rule, best=0.5)."
        )
    try:
        scores = np.array(saved["scores"], np.float64)
        if scores.shape != (len(source),) or any(type(each) is not int for each in saved["positions"]):
            raise ValueError("other positions or scores than a filter writes")
        return KeptSource(source, saved["positions"], scores, str(saved["rule"]), str(saved["condition"]))
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        raise _unreadable(_file(path), error) from error


def fingerprint_of(rule: Rule | Callable[[Batch], Tensor]) -> str:
    """The fingerprint of a rule; of a plain function, its name."""
    if isinstance(rule, Rule):
        return rule.fingerprint
    name = getattr(rule, "__qualname__", type(rule).__qualname__)
    return rule_digest("function", f"{getattr(rule, '__module__', '')}.{name}")


def _scored(
    source: SyntheticSource, rule: Callable[[Batch], Tensor], fingerprint: str, batch_size: int, progress: Path | None
) -> tuple[Floats, bool]:
    """Scores of all samples, and whether they are yes or no."""
    count = len(source)
    head = {"source": source.fingerprint, "length": count, "rule": fingerprint}
    done: list[float] = []
    is_bool = False
    if progress is not None and progress.exists():
        saved = _read(progress, (*head, "bool", "scores"))
        if {key: saved.get(key) for key in head} != head:
            raise StateMismatchError(
                f"`progress` must hold scores of this source and rule, got {str(progress)!r} of others. Nothing was "
                "scored. Give another file, or delete this one."
            )
        done, is_bool = saved["scores"], saved["bool"]
    for number, start in enumerate(range(len(done), count, batch_size)):
        positions = np.arange(start, min(start + batch_size, count))
        given = torch.as_tensor(rule(source.read(positions))).detach().cpu()
        if given.shape != (len(positions),) or not bool(given.double().isfinite().all()):
            raise ConfigurationError(
                f"`rule` must return one finite score for each of {len(positions)} samples, got shape "
                f"{tuple(given.shape)} for positions {start} to {positions[-1]}. Nothing was kept. Return a tensor "
                "(n,): scores.flatten(1).mean(1)."
            )
        is_bool = given.dtype == torch.bool
        done += given.double().tolist()
        if progress is not None and (number % _SAVED_EVERY == _SAVED_EVERY - 1 or len(done) == count):
            _write(progress, {**head, "bool": is_bool, "scores": done})
    return np.array(done, np.float64), is_bool


def _best(scores: Floats, fraction: float, groups: npt.NDArray[Any] | None) -> npt.NDArray[np.bool_]:
    accepted = np.zeros(len(scores), np.bool_)
    for value in [None] if groups is None else np.unique(groups).tolist():
        rows = np.arange(len(scores)) if groups is None else np.flatnonzero(groups == value)
        order = rows[np.argsort(-scores[rows], kind="stable")]
        accepted[order[: max(1, round(fraction * len(rows)))]] = True
    return accepted


def _file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    return path / KEPT_NAME if path.is_dir() else path


def _read(path: Path, entries: Iterable[str]) -> dict[str, Any]:
    try:
        saved = read_entries(path)
        if missing := sorted(set(entries) - saved.keys()):
            raise ValueError(f"no {', '.join(missing)} in it")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return saved


def _unreadable(path: Path, error: Exception) -> StateMismatchError:
    return StateMismatchError(
        f"{path} must hold scores of a filter, got {error}. Nothing was kept. Filter anew, under another name: "
        "keep(source, rule, best=0.5)."
    )


def _write(path: Path, content: dict[str, Any]) -> Path:
    """Writes under another name first: an interrupted write leaves the old file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(with_checksum(content)))
    temporary.replace(path)
    return path
