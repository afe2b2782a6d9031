"""Runs one arm with one seed on one split, under the same conditions as every other arm."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError, DivergenceError
from torchgenaug.samples.random_state import random_state_restored
from torchgenaug.study.arms import Arm
from torchgenaug.study.results import Key, Run
from torchgenaug.study.schedules import set_length
from torchgenaug.study.splits import Split
from torchgenaug.study.watch import network_of, watched

Train: TypeAlias = Callable[[Any, int, int], Any]
"""(data set, seed, steps) → model, trained for exactly that many optimizer steps."""
Score: TypeAlias = Callable[[Any, Any], "float | Mapping[str, float]"]
"""(model, data set) → a number, larger is better; or several by name, of which the study's `metric` counts."""


def run_arm(arm: Arm, split: Split, key: Key, *, train: Train, score: Score, metric: str = "score") -> Run:
    """Trains and scores a model.

    torch's, numpy's and Python's global generators are set from the seed before `train` is called, to the same state
    for every arm, and put back afterwards.

    Args:
        arm: what to train on.
        split: the real data; where `key.share` is below 1, with this fraction of its training samples.
        key: seed and optimizer steps.
        train: of the study, as `score` and `metric`.
        score: see `Score`.
        metric: which of several scores counts.

    Raises:
        ConfigurationError: `train` took another number of optimizer steps; no score has the name of `metric`.
        DivergenceError: a score is not a finite number.
    """
    seed, steps = key.seed, key.steps
    began = time.perf_counter()
    try:
        data = arm.build(split, seed)
        set_length(data, train, steps)
        with random_state_restored(), watched() as watch:
            _seed_everything(seed)
            model = train(data, seed, steps)
            if watch.steps is not None and watch.steps != steps:
                raise ConfigurationError(
                    f"`train` must take the same number of optimizer steps in every arm, {steps}, got {watch.steps} in "
                    f"{key}. An arm with more steps wins by them alone. Count steps, not epochs: stop the loop at "
                    "`steps`."
                )
            if model is None:
                raise ConfigurationError(
                    f"`train` must return the model that it trained, got None in {key}. Nothing could be scored. End "
                    "it with: return model"
                )
            found = [_by_name(score(model, data), metric) for data in (split.test, split.validation)]
    except Exception as error:
        error.add_note(f"in {key}; finished runs are kept, and the same command goes on")
        raise
    scores = [each[metric] for each in found]
    for value, name in zip(scores, ("test", "validation"), strict=True):
        if not math.isfinite(value):
            raise DivergenceError(
                f"`score` must return a finite number, got {value} on the {name} data in {key}. The arm cannot be "
                "compared. Lower the learning rate, or return the worst score for a model without predictions."
            )
    seconds = round(time.perf_counter() - began, 3)
    return Run(
        *(arm.name, seed, key.split, steps, scores[0], seconds, scores[1], watch.start, network_of(model)),
        share=key.share,
        real=len(split.train),
        # An undefined side measure, such as the AUC of one class, is left out: only `metric` has to be there.
        measures={name: value for name, value in found[0].items() if math.isfinite(value)} if len(found[0]) > 1 else {},
    )


def _by_name(scores: Any, metric: str) -> dict[str, float]:
    if not isinstance(scores, Mapping):
        return {metric: _number(scores)}
    if metric not in scores:
        raise ConfigurationError(
            f"`metric` must name one of the scores {list(scores)}, got {metric!r}. No arm could be compared. For "
            f"example Study(..., metric={next(iter(scores), 'accuracy')!r})."
        )
    return {str(name): _number(value) for name, value in scores.items()}


def _number(value: Any) -> float:
    try:
        if isinstance(value, str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"`score` must return a number, or a dict of several, got {value!r}. No arm could be compared. Return one "
            "number for the whole data set, larger is better."
        ) from error


def check_alike(runs: Iterable[Run]) -> None:
    """Checks that all arms train the same network, and begin from the same weights where seed and split are the same.

    Raises:
        ConfigurationError: they do not.
    """
    first: dict[object, Run] = {}
    for run in runs:
        other = first.setdefault("network", run)
        if run.network != other.network:
            raise ConfigurationError(
                f"`train` must build the same network in every arm, got {run.network} in {run.key} and {other.network} "
                f"in {other.key}. Their scores compare networks, not data. Build the network without looking at the "
                "data set."
            )
        other = first.setdefault((run.seed, run.split), run)
        if run.start != other.start:
            raise ConfigurationError(
                f"`train` must begin from the same weights in every arm of a seed, got others in {run.key} than in "
                f"{other.key}. Luck would be compared. Build the network before anything else is drawn: "
                "torch.manual_seed(seed) first."
            )


def _seed_everything(seed: int) -> None:
    import random

    import numpy as np

    own = int(seeding.derive(seed, 0x57D2))
    torch.manual_seed(own & 0x7FFFFFFFFFFFFFFF)
    np.random.seed(own & 0xFFFFFFFF)  # noqa: NPY002 (a user's training may draw from it)
    random.seed(own)
