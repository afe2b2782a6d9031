"""The folder of a study: one line per run in ``results.jsonl``, and locks by which processes share the runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torchgenaug.checksums import fits_checksum, read_entries, with_checksum
from torchgenaug.errors import ConfigurationError, StateMismatchError
from torchgenaug.file_locks import lock_now
from torchgenaug.recipes.lock import open_lock

_RESULTS, _STUDY, _LOCKS = "results.jsonl", "study.json", "locks"


class Key(NamedTuple):
    """Which run: the arm, the seed, the name of the split, optimizer steps, and the fraction of the real data."""

    arm: str
    seed: int
    split: str
    steps: int
    share: float = 1.0

    def __str__(self) -> str:
        part = "" if self.share == 1 else f", {self.share:.0%} of the real data"
        return f"arm {self.arm!r}, seed {self.seed}, split {self.split!r}, {self.steps} steps{part}"


@dataclass(frozen=True)
class Run:
    """One line of ``results.jsonl``.

    Attributes:
        arm: its name.
        seed: of the initial weights and of the order of samples.
        split: its name.
        steps: optimizer steps.
        score: on test data; larger is better.
        seconds: of training and scoring.
        validation: the score on validation data, which chooses the best control.
        start: digest of the initial weights; empty where no optimizer of torch was used.
        network: its type and a digest of the shapes of its parameters.
        share: fraction of the real training data.
        real: how many real training samples that was; 0 in lines of older versions.
        measures: all test scores by name, where the score function returns several.
    """

    arm: str
    seed: int
    split: str
    steps: int
    score: float
    seconds: float
    validation: float
    start: str
    network: str
    share: float = 1.0
    real: int = 0
    measures: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Which run it is."""
        return Key(self.arm, self.seed, self.split, self.steps, self.share)


class Results:
    """The results in a folder; safe for several processes at once, and after a kill at any moment.

    Args:
        folder: is made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / _LOCKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"`out` must be a folder that can be written, got {str(folder)!r}: {error.strerror}. Nothing was "
                "trained. Name a new folder."
            ) from error

    def open(self, settings: Mapping[str, Any]) -> None:
        """Writes the settings of the study, or compares them with those that the folder was begun with.

        Arms, splits and seeds may be added to a folder; what it has keeps its meaning.

        Raises:
            StateMismatchError: the folder is of another configuration; every difference is listed.
        """
        path = self.folder / _STUDY
        with self._locked(_STUDY, wait=True):
            saved = _saved_settings(path)
            now = json.loads(json.dumps(settings))
            differences = [] if saved is None else list(_differences(saved, now))
            if differences:
                raise StateMismatchError(
                    f"`out` must be a new folder or one of the same study, got {str(self.folder)!r}. Differences:\n  - "
                    + "\n  - ".join(differences)
                    + "\nIts results would be mixed with others. Nothing was changed. Choose another folder."
                )
            merged = now if saved is None else _merged(saved, now)
            if merged != saved:
                write_whole(path, json.dumps(with_checksum(merged), indent=2) + "\n")

    def runs(self) -> dict[Key, Run]:
        """All finished runs; a line that a kill cut off is passed over, and its run counts as not done."""
        return self._read()[0]

    def cut_lines(self) -> int:
        """How many lines are no whole runs."""
        return self._read()[1]

    def _read(self) -> tuple[dict[Key, Run], int]:
        path = self.folder / _RESULTS
        found: dict[Key, Run] = {}
        cut = 0
        for line in path.read_bytes().splitlines() if path.exists() else ():
            if not line.strip():
                continue
            try:
                run = _run(json.loads(line))
            except (ValueError, TypeError, RecursionError):
                cut += 1
            else:
                found.setdefault(run.key, run)
        return found, cut

    def append(self, run: Run) -> None:
        """Adds a run, on disk when this returns."""
        with self._locked(_RESULTS, wait=True):
            path = self.folder / _RESULTS
            whole = not path.exists() or not path.stat().st_size or path.read_bytes().endswith(b"\n")
            with path.open("ab") as file:
                file.write((b"" if whole else b"\n") + json.dumps(with_checksum(asdict(run))).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())

    @contextlib.contextmanager
    def claimed(self, key: Key) -> Iterator[bool]:
        """Whether this process has the run to itself; a claim ends with its process, however that ends."""
        with self._locked(hashlib.sha256(repr(tuple(key)).encode()).hexdigest()[:16], wait=False) as mine:
            yield mine and key not in self.runs()

    @contextlib.contextmanager
    def _locked(self, name: str, *, wait: bool) -> Iterator[bool]:
        descriptor = open_lock(self.folder / _LOCKS / f"{name}.lock")
        try:
            mine = lock_now(descriptor)
            while wait and not mine:
                time.sleep(0.02)
                mine = lock_now(descriptor)
            yield mine
        finally:
            os.close(descriptor)


def _run(entries: Any) -> Run:
    if not isinstance(entries, dict) or not fits_checksum(entries):
        raise ValueError("no entries of a run, or damaged ones")
    return Run(**{name: value for name, value in entries.items() if name != "sha256"})


def _saved_settings(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        saved = read_entries(path)
        if not isinstance(saved, dict) or not all(isinstance(saved.get(each), dict) for each in ("arms", "splits")):
            raise ValueError("no settings of a study")
    except (OSError, ValueError) as error:
        raise StateMismatchError(
            f"{path} must be the settings of a study, got a damaged file: {error}. Whether the results of this folder "
            "belong to this study is not known. Nothing was changed. Choose another folder, or delete the file if you "
            "know that they do."
        ) from error
    return saved


def write_whole(path: Path, text: str) -> None:
    """Writes a file next to its place and renames it, so that nobody ever reads half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(saved.keys() | now.keys()):
        before, after = saved.get(name), now.get(name)
        if name in ("arms", "splits") and isinstance(before, dict) and isinstance(after, dict):
            for each in sorted(before.keys() & after.keys()):
                if before[each] != after[each]:
                    yield f"{name[:-1]} {each!r}: saved {before[each]!r}, now {after[each]!r}"
        elif before != after:
            yield f"{name}: saved {before!r}, now {after!r}"


def _merged(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    return {**now, **{name: {**saved[name], **now[name]} for name in ("arms", "splits")}}
