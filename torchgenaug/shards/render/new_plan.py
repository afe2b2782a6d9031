"""`NewPlan`: a plan that was laid down just now, and is taken away again where nothing comes of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from torchgenaug.shards.format import MANIFEST_NAME


class NewPlan:
    """What a render adds to its folder before the first shard; to be built before the plan is laid down.

    A plan that stayed after an error would refuse the very settings that the error advises. It stays where shards are,
    or files of another process, and where other processes may have read it.

    Args:
        folder: the shard folder, which may not exist yet.
        alone: whether no other process renders by this plan.
    """

    def __init__(self, folder: Path, *, alone: bool = True) -> None:
        self._folder, self._is_new_folder = folder, not folder.exists()
        self._is_new = alone and not (folder / MANIFEST_NAME).exists()

    def withdraw(self) -> bool:
        """Removes the plan, and the folder where it was new; returns whether nothing of this render is left."""
        if not self._is_new or os.listdir(self._folder) != [MANIFEST_NAME]:
            return False
        try:
            (self._folder / MANIFEST_NAME).unlink()
        except OSError:
            return False
        if self._is_new_folder:
            with contextlib.suppress(OSError):  # a file has just come
                self._folder.rmdir()
        return True
