"""`SyntheticSequence`: the infinite, indexed sequence of synthetic samples, which generates and checks them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.contracts import (
    Conditions,
    Redrawing,
    Screen,
    Synthesizer,
    trained_on_of,
)
from torchgenaug.errors import BadSampleError, ConfigurationError
from torchgenaug.screens import default_screens
from torchgenaug.sequence.checks import (
    check_conditions,
    check_device_of_fork,
    check_field,
    check_names,
    checked_ids,
    spec_of,
)
from torchgenaug.texts import describe_value, first_few
from torchgenaug.types import Batch, FieldSpec


class SyntheticSequence:
    """Sample k, for every k ≥ 0, as a pure function of (synthesizer, conditions, seed, k).

    Deterministic; picklable if synthesizer and conditions are. Pools, shards and this class agree on sample k: bit by
    bit when it is made in a batch of the same ids, within 1e-4 otherwise.

    Args:
        synthesizer: the model; see `torchgenaug.contracts.Synthesizer`.
        conditions: conditions of each sample, a function of its id; None for an unconditional model.
        seed: base seed; another one gives another sequence.
        screens: checks that every batch must pass, beyond finite values, shape, dtype and range. Default: a
            `torchgenaug.screens.ConstantScreen` of the synthesizer's intensity images; ``()`` for none.

    Raises:
        ConfigurationError: an argument that does not have the methods of its contract, or a seed outside [0, 2^63);
            conditions without what the synthesizer says that it needs, or with classes that it does not know.

    Example:
        >>> from torchgenaug.testing import AnalyticSynthesizer
        >>> sequence = SyntheticSequence(AnalyticSynthesizer(), seed=7)
        >>> batch = sequence.batch([0, 5])
        >>> batch["image"].shape
        torch.Size([2, 1, 32, 32])
        >>> torch.equal(sequence.batch([5])["image"][0], batch["image"][1])
        True
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        screens: Sequence[Screen] | None = None,
    ) -> None:
        if not isinstance(synthesizer, Synthesizer):
            raise ConfigurationError(
                f"`synthesizer` must have fields, fingerprint and synthesize(seeds, conditions), got "
                f"{type(synthesizer).__name__}. Wrap a network as ModuleSynthesizer or DiffusersSynthesizer, and a "
                "plain function as FunctionSynthesizer."
            )
        if conditions is not None and not isinstance(conditions, Conditions):
            raise ConfigurationError(
                f"`conditions` must be callable on ids and have a fingerprint, got {type(conditions).__name__}. "
                "See torchgenaug.conditions, for example ClassLabels."
            )
        seed = seeding.checked_seed(seed)
        check_conditions(synthesizer, conditions)
        self.synthesizer = synthesizer
        self.conditions = conditions
        self.seed = seed
        # No part of the fingerprint: neither the default nor its absence changes a sample.
        self._has_default_screens = screens is None
        self.screens = default_screens(synthesizer.fields) if screens is None else tuple(screens)
        self._process = os.getpid()

    @cached_property
    def fields(self) -> Mapping[str, FieldSpec]:
        """What every sample holds: the synthesizer's fields, and the condition's where it does not set them itself."""
        return {**self._condition_fields, **self.synthesizer.fields}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over synthesizer, conditions, given screens and seed: names this very sequence."""
        parts = [
            self.synthesizer.fingerprint,
            "" if self.conditions is None else self.conditions.fingerprint,
            *(() if self._has_default_screens else (screen.fingerprint for screen in self.screens)),
            str(self.seed),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        """What the synthesizer was trained on, JSON-ready; None where unknown."""
        return trained_on_of(self.synthesizer)

    def seeds(self, ids: Sequence[int] | np.ndarray) -> seeding.UInt64Array:
        """The first seeds of samples `ids`: (len(ids),) uint64; a screen that redraws derives others from them."""
        return seeding.derive(self.seed, seeding.SAMPLE, checked_ids(ids))

    def condition(self, ids: Sequence[int] | np.ndarray) -> Batch | None:
        """The conditions of samples `ids`, without making the samples."""
        if self.conditions is None:
            return None
        conditions = self.conditions(checked_ids(ids).tolist())
        for name, value in conditions.items():
            if not isinstance(value, Tensor) or len(value) != len(ids):
                raise BadSampleError(
                    f"`conditions` must return tensors with {len(ids)} rows for {len(ids)} ids, "
                    f"got {describe_value(value)} for field {name!r}.",
                    ids=[int(k) for k in ids],
                )
        return conditions

    def batch(self, ids: Sequence[int] | np.ndarray) -> Batch:
        """Samples `ids`, freshly made and checked.

        Args:
            ids: which samples; non-negative integers, at least one.

        Returns:
            field → tensor of shape (len(ids), *spec.shape), on the synthesizer's device, exactly as `fields` says.

        Raises:
            ConfigurationError: the synthesizer is on a CUDA device, and this process was forked from the sequence's.
            SampleIndexError: a negative or fractional id, or none at all.
            BadSampleError: the synthesizer returned NaN or Inf, or another shape, dtype, range or set of fields than it
                declares, or a constant image; ids and seeds of the bad samples are named.
        """
        if self._process != os.getpid():
            check_device_of_fork(self.synthesizer)
        checked = checked_ids(ids)
        seeds = seeding.derive(self.seed, seeding.SAMPLE, checked)
        conditions = self.condition(checked)
        return self._screened(checked, seeds, conditions, self._synthesize(checked, seeds, conditions))

    def _synthesize(self, ids: np.ndarray, seeds: np.ndarray, conditions: Batch | None) -> Batch:
        """What the synthesizer returns for these seeds, checked against `fields`."""
        try:
            made = self.synthesizer.synthesize(seeds.tolist(), conditions)
        except Exception as error:
            error.add_note(f"while synthesizing ids {first_few(ids.tolist())} (seeds {first_few(seeds.tolist())})")
            raise
        if not isinstance(made, Mapping):
            raise BadSampleError(f"`synthesize` must return a dict of tensors, got {type(made).__name__}.")
        batch = {name: value for name, value in (conditions or {}).items() if name not in made} | dict(made)
        check_names(batch, self.fields)
        for name, spec in self.fields.items():
            check_field(name, batch[name], spec, ids, seeds, self._how_to_clamp())
        return {name: batch[name].detach() for name in self.fields}

    def _screened(self, ids: np.ndarray, seeds: np.ndarray, conditions: Batch | None, batch: Batch) -> Batch:
        """The batch once it passes every screen: what a `Redrawing` screen rejects is made from other seeds.

        Attempt a of a sample has the seed ``derive(its first seed, REDRAW, a)``, whatever batch it is in.
        """
        first, attempts = seeds, np.zeros(len(ids), np.int64)
        passed = 0
        while passed < len(self.screens):
            screen = self.screens[passed]
            try:
                screen(ids.tolist(), seeds.tolist(), batch)
                passed += 1
            except BadSampleError as error:
                rows = np.flatnonzero(np.isin(ids, error.ids))
                allowed = screen.redraws if isinstance(screen, Redrawing) else 0
                if not len(rows) or attempts[rows].max() >= allowed:
                    raise
                attempts[rows] += 1
                seeds = seeds.copy()
                seeds[rows] = seeding.derive(first[rows], seeding.REDRAW, attempts[rows])
                chosen = None if conditions is None else {name: value[rows] for name, value in conditions.items()}
                again = self._synthesize(ids[rows], seeds[rows], chosen)
                batch = {name: value.clone() for name, value in batch.items()}
                for name, value in again.items():
                    batch[name][torch.from_numpy(rows).to(value.device)] = value
                passed = 0  # a new image has to pass the earlier screens, too
        return batch

    @cached_property
    def _condition_fields(self) -> Mapping[str, FieldSpec]:
        if self.conditions is None:
            return {}
        declared = getattr(self.conditions, "fields", None)
        if declared is not None:
            return dict(declared)
        return {name: spec_of(value) for name, value in (self.condition([0]) or {}).items()}

    def _how_to_clamp(self) -> str:
        return (
            "clip=True" if getattr(self.synthesizer, "clip", None) is False else "images.clamp(low, high) in the model"
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid())

    def __repr__(self) -> str:
        conditions = "" if self.conditions is None else f", {self.conditions!r}"
        return f"SyntheticSequence({self.synthesizer!r}{conditions}, seed={self.seed})"
