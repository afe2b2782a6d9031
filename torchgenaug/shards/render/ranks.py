"""One render in several processes, on one machine or many, that share nothing but the folder.

Shard k is made by rank k mod world_size. Who makes what thus needs no agreement, no lock and no clock; the ranks
advance side by side, so that what an interruption leaves is spread evenly over any other number of ranks. To claim
shards one by one would balance unequal machines better, but needs locks that work on every network file system.

While a rank works, a file of its name lies in the folder, locked and touched now and then. So those that wait can tell
a rank that is slow from one that is dead.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from torchgenaug.errors import ConfigurationError, ShardIncompleteError, describe_error
from torchgenaug.shards.folder import KERNEL, TemporaryFile, probe_lock, read_manifest, some_ranges
from torchgenaug.shards.format import MANIFEST_NAME, Manifest

START_S = 300.0
"""How long a rank whose process is seen may take to appear, and rank 0 to plan: others may load models faster."""
APPEAR_S = 20.0
"""How long a rank may take to appear of which nothing is seen: it was killed while it loaded, or never started."""
SILENT_S = 120.0
"""How long a rank on another machine may give no sign. Network file systems show old times for up to a minute."""
_BEAT_S = 10.0
_PROCESSES = Path("/proc")
_POLL_S = (0.1, 2.0)  # first and longest pause between two looks at the folder
_MARK = re.compile(r"\.torchgenaug-rank([0-9]{1,9})-([0-9a-f]{8})-[0-9a-f]+\.tmp", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which part of a render this process makes.

    Attributes:
        rank: of this process, in [0, world_size).
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (self.rank, self.world_size))
        if not whole or not 0 <= self.rank < self.world_size:
            raise ConfigurationError(
                f"`ranks` must be (rank, world_size) with 0 <= rank < world_size, got {(self.rank, self.world_size)}. "
                "Nothing was rendered. torchrun sets RANK and WORLD_SIZE; with ranks=(0, 1) one process makes all."
            )

    @classmethod
    def from_environment(cls) -> Ranks:
        """What ``torchrun`` and ``accelerate launch`` set: ``RANK`` and ``WORLD_SIZE``. One process where they do not.

        Raises:
            ConfigurationError: they are set to something else than such numbers.
        """
        rank, world_size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
        if rank is None or world_size is None:
            return cls()
        if not (rank.isdecimal() and world_size.isdecimal()):
            raise ConfigurationError(
                f"The environment must hold RANK and WORLD_SIZE as integers, got {rank!r} and {world_size!r}. "
                "Nothing was rendered. Start with torchrun, or unset them: env -u RANK -u WORLD_SIZE ..."
            )
        return cls(int(rank), int(world_size))

    def owns(self, index: int) -> bool:
        """Whether this process makes shard `index`."""
        return index % self.world_size == self.rank


class Presence:
    """A context that says to the other ranks that this one is at work; and, if it raises, that and why it ended.

    Args:
        folder: the shard folder.
        ranks: with a single rank there is nobody to tell, and no file.
    """

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self._folder, self._ranks = folder, ranks
        self._stop = threading.Event()

    def __enter__(self) -> Presence:
        if self._ranks.world_size > 1:
            self._mark = TemporaryFile(self._folder, tag=f"rank{self._ranks.rank}-")
            self._thread = threading.Thread(target=self._beat, name="torchgenaug-presence", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ranks.world_size == 1:
            return
        self._stop.set()
        self._thread.join()
        if error is None:
            self._mark.discard()
        else:
            self._mark.leave(describe_error(error).encode(errors="replace")[:2000])

    def _beat(self) -> None:
        while not self._stop.wait(_BEAT_S):
            try:
                os.utime(self._mark.descriptor)
            except OSError:
                return  # a folder that went away is for the render to report


def wait_for_plan(folder: Path, ranks: Ranks, count: int = 0) -> None:
    """Waits until rank 0 has laid down the manifest.

    Args:
        folder: the shard folder.
        ranks: of this process.
        count: how many samples the manifest must plan at least.

    Raises:
        ShardIncompleteError: it did not.
    """
    watch, pause = _Watch(folder, ranks), _POLL_S[0]
    while not _is_planned(folder, count):
        dead = watch.dead({0})
        if dead and not _is_planned(folder, count):
            raise ShardIncompleteError(
                f"{folder} must hold the manifest that rank 0 writes, got none (rank 0: {dead[0]}). Nothing was "
                "rendered. Start all ranks together, for example with torchrun."
            )
        time.sleep(pause)
        pause = min(2 * pause, _POLL_S[1])


def _is_planned(folder: Path, count: int) -> bool:
    return (folder / MANIFEST_NAME).exists() and (not count or read_manifest(folder).count >= count)


def wait_for_others(folder: Path, manifest: Manifest, ranks: Ranks, missing: Callable[[], list[int]]) -> None:
    """Waits until every shard is there.

    Args:
        folder: the shard folder.
        manifest: its manifest.
        ranks: of this process, whose own part is done.
        missing: looks which shards are not there, or not whole.

    Raises:
        ShardIncompleteError: a rank that owes shards has ended without them, or never began.
    """
    watch, suspects, pause = _Watch(folder, ranks), dict[int, str](), _POLL_S[0]
    while indices := missing():
        owing = {index % ranks.world_size for index in indices}
        # Suspected before this look at the folder, and still owing: it did not just finish.
        dead = {rank: suspects[rank] for rank in sorted(owing & suspects.keys())}
        if ranks.rank in owing:
            dead[ranks.rank] = "what it made is gone"
        if dead:
            ids = some_ranges(indices, unit=manifest.shard_size, end=manifest.count)
            reasons = "; ".join(f"rank {rank}: {why}" for rank, why in sorted(dead.items()))
            raise ShardIncompleteError(
                f"{folder} must hold {manifest.num_shards} shards, got {manifest.num_shards - len(indices)}: ids {ids} "
                f"are not there ({reasons}). What is there stays. Run the same render again, with any number of "
                "processes, to make the rest; with ranks=(0, 1) one process makes all."
            )
        suspects = watch.dead(owing)
        time.sleep(pause)
        pause = min(1.5 * pause, _POLL_S[1])


def may_be_starting(rank: int, ranks: Ranks) -> bool:
    """Whether a rank that has left no sign in the folder may still be loading.

    Launchers tell each process its rank by its environment, which can be looked at on the machine itself; a rank on
    another machine is left to its launcher. Without either, nothing speaks for it.

    Args:
        rank: which.
        ranks: of this process.
    """
    own = os.environ.get
    if own("RANK") != str(ranks.rank) or own("WORLD_SIZE") != str(ranks.world_size):
        return False  # `ranks` was given
    local, size = own("LOCAL_RANK", ""), own("LOCAL_WORLD_SIZE", "")
    if local.isdecimal() and size.isdecimal() and not 0 <= rank - (ranks.rank - int(local)) < int(size):
        return True
    wanted = {f"RANK={rank}", f"WORLD_SIZE={ranks.world_size}"}
    wanted |= {f"{name}={own(name)}" for name in ("MASTER_PORT", "TORCHELASTIC_RUN_ID") if own(name) is not None}
    for place in _PROCESSES.glob("[0-9]*/environ"):
        # Processes of other users may not be looked at; one that is dead but not yet buried has no environment.
        with contextlib.suppress(OSError):
            if wanted <= {*place.read_bytes().decode(errors="replace").split("\0")}:
                return True
    return not _PROCESSES.is_dir()


class _Watch:
    """Tells dead ranks from slow ones."""

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self._folder, self._ranks = folder, ranks
        self._last: dict[int, tuple[object, float]] = {}

    def dead(self, ranks: set[int]) -> dict[int, str]:
        """Those of `ranks` that do not work any more, and how one knows."""
        marks = self._marks()
        return {rank: reason for rank in ranks if (reason := self._verdict(rank, marks.get(rank, {})))}

    def _verdict(self, rank: int, marks: dict[str, tuple[bool | None, float, str]]) -> str:
        held = [entry[0] for entry in marks.values()]
        if any(held):
            self._last.pop(rank, None)
            return ""
        # Where a lock says nothing, a change of the files does. Only our own clock is used.
        signs = sorted((name, entry[1]) for name, entry in marks.items())
        last, since = self._last.setdefault(rank, (signs, time.monotonic()))
        if last != signs:
            since = time.monotonic()
            self._last[rank] = (signs, since)
        silence = time.monotonic() - since
        if marks and None not in held:
            return next((entry[2] for entry in marks.values() if entry[2]), "its process was killed")
        if marks:
            return f"no sign of it for {silence:.0f} s" if silence >= SILENT_S else ""
        if silence < min(APPEAR_S, START_S) or (silence < START_S and may_be_starting(rank, self._ranks)):
            return ""
        return f"it did not appear within {silence:.0f} s"

    def _marks(self) -> dict[int, dict[str, tuple[bool | None, float, str]]]:
        """Rank → file name → (whether it is held, None if unknown; modification time; why the rank ended)."""
        found: dict[int, dict[str, tuple[bool | None, float, str]]] = {}
        for name in os.listdir(self._folder) if self._folder.is_dir() else ():
            match = _MARK.fullmatch(name)
            if match is None:
                continue
            try:
                modified, reason = (self._folder / name).stat().st_mtime, ""
                with contextlib.suppress(PermissionError):  # another user's
                    reason = (self._folder / name).read_text(errors="replace")
                held = False if reason else probe_lock(self._folder / name) if match[2] == KERNEL else None
            except FileNotFoundError:
                continue
            found.setdefault(int(match[1]), {})[name] = (held, modified, reason)
        return found
