"""`Ranks`, which part of a render a process makes, and `Presence`, how it shows the others that it is alive.

Imports nothing that takes time: the command announces a rank before it loads torch, so that a process that is killed
from then on is missed.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from torchgenaug.errors import ConfigurationError, describe_error
from torchgenaug.local_paths import expanded
from torchgenaug.shards.temporary import TemporaryFile

_BEAT_S = 3.0


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
        folder: the shard folder; made if it is absent.
        ranks: with a single rank there is nobody to notify, and no file.
    """

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self._folder, self._ranks = folder, ranks
        self._stop = threading.Event()

    def __enter__(self) -> Presence:
        if self._ranks.world_size > 1:
            self._folder.mkdir(parents=True, exist_ok=True)
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


def announce_rank(path: str | os.PathLike[str], ranks: tuple[int, int] | None = None) -> Presence:
    """A context in which the other processes of a render see that this one is at work, while it loads its model, too.

    `render_shards` does the same while it renders. A script that runs on several machines enters this context before it
    loads anything: a process that dies while it loads is then missed within 30 s. Without it, the others wait for 300 s
    for a process on another machine of which they have seen nothing. ``torchgenaug render`` does it by itself.

    Args:
        path: the folder that will be rendered into; made if it is absent.
        ranks: (rank, world_size) of this process; default: what the launcher put into the environment (RANK,
            WORLD_SIZE). With a single process nothing is done.

    Raises:
        ConfigurationError: no such ranks.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with announce_rank(folder, ranks=(0, 1)):
        ...     pass  # load the model, then call render_shards(sequence, folder, count)
    """
    return Presence(expanded(path), Ranks.from_environment() if ranks is None else Ranks(*ranks))
