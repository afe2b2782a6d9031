"""How far a render is: a progress bar, or the user's own function."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int, int], None]
"""Called with (samples made, samples to make, bytes committed), all of this call; from two threads, never at once."""


class Report:
    """Passes progress on to a bar or a function.

    Args:
        progress: as for `torchgenaug.render_shards`.
        total: samples to make.
        name: what stands before the bar.

    Attributes:
        names: of the files that were committed.
    """

    def __init__(self, progress: bool | Progress | None, total: int, name: str = "render") -> None:
        self._call = progress if callable(progress) else None
        self._total, self._samples, self._bytes = total, 0, 0
        self._lock = threading.RLock()  # samples are counted in one thread, commits in another
        self.names: set[str] = set()
        self._bar = None
        if progress is True or (progress is None and sys.stderr.isatty()):
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=" samples", desc=name)

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def made(self, samples: int) -> None:
        """Counts samples that the model returned."""
        with self._lock:
            self._samples += samples
            if self._bar is not None:
                self._bar.update(samples)
            self._call_function()

    def committed(self, name: str, size: int) -> None:
        """Counts a shard that has its name now."""
        with self._lock:
            self.names.add(name)
            self._bytes += size
            if self._bar is not None:
                self._bar.set_postfix_str(f"{self._bytes / 1e6:,.0f} MB", refresh=False)
            self._call_function()

    def _call_function(self) -> None:
        if self._call is not None:
            self._call(self._samples, self._total, self._bytes)
