"""`keep`: the samples of a source that a rule accepts; sample k stays sample k."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, StateMismatchError
from torchgenaug.local_paths import make_folder
from torchgenaug.shards.filter_record import record_filter
from torchgenaug.shards.format import MANIFEST_NAME
from torchgenaug.sources.selected import SelectedSource
from torchgenaug.trust.filters.identity import digest_of
from torchgenaug.trust.filters.rules import Rule, rule_digest
from torchgenaug.trust.filters.scoring import Floats, is_number, read_scores, score_all, unreadable, write_scores
from torchgenaug.types import Batch

KEPT_NAME = "kept.json"


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
        file = write_scores(
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
        ConfigurationError: neither or both of `above` and `best` for scores, `best` for yes and no; what a rule
            returns is not one finite number per sample, or scores for one batch and yes and no for another; a source
            that changes from epoch to epoch.
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
    check_condition(above, best)
    _check_within(source, best, within)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigurationError(f"`batch_size` must be an integer of at least 1, got {batch_size!r}.")
    SelectedSource(source, [0])  # refuses a source that changes
    if progress is not None:
        make_folder(Path(progress).parent, "progress")
    fingerprint = fingerprint_of(rule)
    scores, is_bool = score_all(source, rule, fingerprint, batch_size, None if progress is None else Path(progress))
    if not is_bool and above is None and best is None:
        raise ConfigurationError(
            "`above` or `best` must say which scores to keep. For example keep(source, rule, best=0.5)."
        )
    if is_bool and best is not None:
        raise ConfigurationError(
            "`best` must go with a rule that returns scores, got one that returns yes and no. None of the samples that "
            "it accepts is better than another. Leave `best` out: keep(source, rule)."
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
    saved = read_scores(_file(path), ("source", "length", "rule", "condition", "positions", "scores"))
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
        raise unreadable(_file(path), error) from error


def fingerprint_of(rule: Rule | Callable[[Batch], Tensor]) -> str:
    """The fingerprint of a rule; of a function or another object of the user's, see `digest_of`."""
    return rule.fingerprint if isinstance(rule, Rule) else rule_digest("function", digest_of(rule))


def check_condition(above: Any, best: Any) -> None:
    """Raises `ConfigurationError` for thresholds that no score could fulfil; see `keep`."""
    if above is not None and best is not None:
        raise ConfigurationError("`above` and `best` must not be given together. Leave one of them out.")
    if best is not None and not (is_number(best) and 0 < best <= 1):
        raise ConfigurationError(f"`best` must be a fraction in (0, 1], got {best!r}. For example best=0.5.")
    if above is not None and not is_number(above):
        raise ConfigurationError(f"`above` must be a finite number, got {above!r}. For example above=0.5.")


def _check_within(source: SyntheticSource, best: Any, within: Any) -> None:
    if within is None:
        return
    whole = [
        name
        for name, spec in source.fields.items()
        if spec.kind == "scalar" and spec.shape == () and not spec.dtype.is_floating_point
    ]
    if best is None or within not in whole:
        raise ConfigurationError(
            f"`within` must name a whole number of each sample ({', '.join(map(repr, whole)) or 'there is none'}) and "
            f"go with `best`, got {within!r}{'' if best is not None else ' without it'}. For example "
            "keep(source, rule, best=0.5, within='label')."
        )


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
