"""`compare_lengths`: whether the first training length was long enough for its verdicts to be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torchgenaug.study.statistics import interval


def compare_lengths(summaries: Sequence[Mapping[str, Any]], test_share: float) -> list[str]:
    """Sentences on what changes with longer training; a remark where there was one length alone.

    Args:
        summaries: of `summarise`, one for each length, the first of which decides verdicts.
        test_share: see `interval`.
    """
    first, *longer = summaries
    if not longer:
        return ["One training length alone: whether ranks depend on it is not known. Try lengths = [1, 3]."]
    sentences = []
    for other in longer:
        turned = [
            f"{name!r} ({_verdict(first, name)} at {first['steps']} steps, {_verdict(other, name)} at {other['steps']})"
            for name in first["arms"]
            if _verdict(first, name) != _verdict(other, name)
        ]
        if turned:
            sentences.append(
                f"Warning, undertrained: the verdict depends on the training length for {', '.join(turned)}. "
                "Believe the longer training, or train longer still."
            )
        control = first["best_control"]
        before, after = first["arms"][control], other["arms"][control]
        gain = interval(
            [late - early for early, late in zip(before["scores"], after["scores"], strict=True)], test_share
        )
        if gain.low is not None and gain.low > 0:
            sentences.append(
                f"Warning, undertrained: {control!r}, the best control, still gains with longer training, "
                f"{before['mean']:.4f} at {first['steps']} steps and {after['mean']:.4f} at {other['steps']}."
            )
        if not sentences:
            sentences.append(f"All verdicts are the same at {other['steps']} steps.")
    return sentences


def _verdict(summary: Mapping[str, Any], name: str) -> str | None:
    verdict: str | None = summary["arms"][name].get("against_best_control", {}).get("verdict")
    return verdict
