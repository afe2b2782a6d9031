"""Texts of the pool's error messages."""

from __future__ import annotations

from torchgenaug import seeding
from torchgenaug.errors import describe_error, describe_traceback
from torchgenaug.pool.storage.ring import Ring
from torchgenaug.pool.storage.window import Window

CLOSED_TEXT = "The pool is closed. Build a new one: equal arguments give equal samples."
NOT_OWNER_TEXT = (
    "`set_epoch` must be called in the process that built the pool, not in a worker or on a pickled copy. All views "
    "follow."
)


def moved_text(ring: Ring, turn: int) -> str:
    """The error of a read of `turn` that the pool moved away under."""
    now, then = (ring.window.name(number) for number in (ring.get("turn"), turn))
    return (
        f"The pool moved to {now} while {then} was being read. Nothing wrong was handed out. "
        "Call `set_epoch` between epochs, when no worker reads any more."
    )


def failed_text(window: Window, seed: int, batch: int, error: BaseException) -> str:
    """The error of a batch that could not be made; a negative one stands for moving the weights of the model away."""
    what = "give back the memory of its model"
    if batch >= 0:
        ids = window.ids(batch)
        seeds = ", ".join(map(str, seeding.derive(seed, seeding.SAMPLE, ids[:4]).tolist()))
        what = f"make samples {ids[0]} to {ids[-1]} (seeds {seeds}{', …' if len(ids) > 4 else ''})"
    return (
        f"The pool could not {what}: {describe_error(error)}. Call `set_epoch` to try again.\n\n"
        + describe_traceback(error, -12)
    )


def hung_text(ring: Ring, timeout_s: float) -> str:
    """The error of a wait that took too long."""
    making = ring.get("making")
    ids = ring.window.ids(making)
    what = "no batch is being made" if making < 0 else f"samples {ids[0]} to {ids[-1]} are still being made"
    return (
        f"Waited for samples longer than `timeout_s` = {timeout_s:g} s: {what}. "
        "Raise `timeout_s` if one batch may take that long, or lower `batch_size`; otherwise the model hangs."
    )


def still_runs_text(timeout_s: float) -> str:
    """The pool was closed, but its model does not come to an end."""
    return f"The model still runs {timeout_s:g} s after the pool was closed; its thread is left to itself."
