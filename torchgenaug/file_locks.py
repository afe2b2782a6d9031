"""`warn_without_locks`: the line for a file system that has no locks."""

from __future__ import annotations

import warnings


def warn_without_locks(error: OSError, consequence: str) -> None:
    """Warns, once per text and process, that a lock could not be taken because there are none.

    Args:
        error: what the system answered.
        consequence: what is different without locks, and what to do about it.
    """
    warnings.warn(
        f"The file system of this folder has no locks ({error.strerror or error}). {consequence}",
        RuntimeWarning,
        stacklevel=3,
    )
