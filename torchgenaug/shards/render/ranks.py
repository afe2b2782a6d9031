"""One render in several processes, on one machine or many, that share nothing but the folder.

Shard k is made by rank k mod world_size. Who makes what thus needs no agreement, no lock and no clock; the ranks
advance side by side, so that what an interruption leaves is spread evenly over any other number of ranks. To claim
shards one by one would balance unequal machines better, but needs locks that work on every network file system.

While a rank loads and works, a file of its name lies in the folder (`presence`). So those that wait can tell a rank
that is slow from one that is dead.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from torchgenaug.errors import ShardIncompleteError
from torchgenaug.shards.folder import read_manifest, some_ranges
from torchgenaug.shards.format import MANIFEST_NAME, Manifest
from torchgenaug.shards.read.content import on_network
from torchgenaug.shards.render.presence import Presence as Presence
from torchgenaug.shards.render.presence import Ranks as Ranks
from torchgenaug.shards.temporary import KERNEL, TemporaryFile, probe_lock

START_S = 300.0
"""How long a rank whose process is seen may take to appear, and rank 0 to plan: others may load models faster."""
APPEAR_S = 20.0
"""How long a rank may take to appear of which nothing is seen: it was killed while it started, or never was."""
SILENT_S = 25.0
"""How long a rank may give no sign whose lock cannot be seen: it runs on another machine."""
_PROCESSES = Path("/proc")
_POLL_S = (0.1, 2.0)  # first and longest pause between two looks at the folder
_MARK = re.compile(r"\.torchgenaug-rank([0-9]{1,9})-([0-9a-f]{8})-[0-9a-f]+\.tmp", re.ASCII)


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


def may_be_starting(rank: int, ranks: Ranks, *, announced: bool = False) -> bool:
    """Whether a rank that has left no sign in the folder may still be loading.

    Launchers give each process its rank in its environment, which can be looked at on the machine itself. A rank on
    another machine, of which nothing can be seen, may be loading unless all announce themselves before they load.

    Args:
        rank: which.
        ranks: of this process.
        announced: whether this process announced itself before it loaded its model; the others did the same then.
    """
    own = os.environ.get
    if own("RANK") != str(ranks.rank) or own("WORLD_SIZE") != str(ranks.world_size):
        return False  # `ranks` was given
    local, size = own("LOCAL_RANK", ""), own("LOCAL_WORLD_SIZE", "")
    if local.isdecimal() and size.isdecimal() and not 0 <= rank - (ranks.rank - int(local)) < int(size):
        return not announced
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
        # While a rank waits it shows itself in the folder only if it did so before it loaded its model.
        announced = any(entry[0] is not False for entry in marks.get(self._ranks.rank, {}).values())
        return {rank: reason for rank in ranks if (reason := self._verdict(rank, marks.get(rank, {}), announced))}

    def _verdict(self, rank: int, marks: dict[str, tuple[bool | None, float, str]], announced: bool) -> str:
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
        if silence < min(APPEAR_S, START_S) or (
            silence < START_S and may_be_starting(rank, self._ranks, announced=announced)
        ):
            return ""
        return f"it did not appear within {silence:.0f} s"

    def _marks(self) -> dict[int, dict[str, tuple[bool | None, float, str]]]:
        """Rank → file name → (whether it is held, None if unknown; modification time; why the rank ended)."""
        found: dict[int, dict[str, tuple[bool | None, float, str]]] = {}
        _look_afresh(self._folder)
        for name in os.listdir(self._folder) if self._folder.is_dir() else ():
            match = _MARK.fullmatch(name)
            if match is None:
                continue
            path, reason = self._folder / name, ""
            try:
                modified = path.stat().st_mtime
                with contextlib.suppress(PermissionError), path.open("rb") as file:  # another user's may be unreadable
                    # Of the open file: NFS asks the server when a file is opened, and trusts its cache otherwise.
                    modified = os.fstat(file.fileno()).st_mtime
                    reason = file.read().decode(errors="replace")
                held = False if reason else probe_lock(path) if match[2] == KERNEL else None
            except FileNotFoundError:
                continue
            found.setdefault(int(match[1]), {})[name] = (held, modified, reason)
        return found


def _look_afresh(folder: Path) -> None:
    """Makes the next listing a new one where the system may show one that is a minute old: on network file systems.

    A change of the folder by this machine ends what it remembers of it.
    """
    if folder.is_dir() and on_network(folder):
        with contextlib.suppress(OSError):  # a full disk is for those to report that render
            TemporaryFile(folder).discard()
