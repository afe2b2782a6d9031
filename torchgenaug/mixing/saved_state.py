"""Compares a saved state with the mix that it is loaded into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torchgenaug.errors import StateMismatchError
from torchgenaug.plan.batch_plan import BatchPlan
from torchgenaug.plan.mix_plan import MixPlan


def check_state(
    state: Mapping[str, Any],
    settings: Callable[[int], Mapping[str, Any]],
    position: tuple[str, ...],
    origin: str,
    remedy: str,
) -> None:
    """Raises `StateMismatchError` unless `state` was saved by such a mix; every difference is listed.

    Args:
        state: what was saved.
        settings: epoch → what decides the samples of this mix until the end of that epoch.
        position: keys that say where the saved run stood, ``epoch`` first.
        origin: where the state must come from, for the message.
        remedy: what to do, for the message.
    """
    differences = [f"{name}: missing" for name in position if name not in state]
    differences += [
        f"{name}: saved {state.get(name)!r}, now {mine!r}"
        for name, mine in settings(0 if differences else int(state["epoch"])).items()
        if state.get(name) != mine
    ]
    if differences:
        raise StateMismatchError(
            f"The saved state must come from {origin}. Differences:\n  - " + "\n  - ".join(differences) + f"\n{remedy}"
        )


def shared_settings(plan: MixPlan | BatchPlan, source: object) -> dict[str, Any]:
    """What decides the samples of a data set and of a loader alike, JSON-ready."""
    # Before version 2 of their order large sets went by the same one in every lap.
    return ({"large_sets": 2} if plan.is_large else {}) | {
        "seed": plan.seed,
        "mode": plan.mode,
        "num_synthetic": plan.num_synthetic,
        "refresh": getattr(source, "refresh", None),
        "fingerprint": getattr(source, "fingerprint", None),
    }
