"""`SyntheticSequence`: the infinite, indexed sequence of synthetic samples, and the one place where they are born."""

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
    Conditional,
    Conditions,
    Redrawing,
    Screen,
    Synthesizer,
    device_of,
    num_classes_of,
    trained_on_of,
)
from torchgenaug.errors import BadSampleError, ConfigurationError, SampleIndexError
from torchgenaug.screens import default_screens
from torchgenaug.texts import describe_value, first_few
from torchgenaug.types import Batch, FieldSpec

MAX_ID = 1 << 62
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # torch cannot compare these


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
        _check_conditions(synthesizer, conditions)
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
        return seeding.derive(self.seed, seeding.SAMPLE, _checked_ids(ids))

    def condition(self, ids: Sequence[int] | np.ndarray) -> Batch | None:
        """The conditions of samples `ids`, without making the samples."""
        if self.conditions is None:
            return None
        conditions = self.conditions(_checked_ids(ids).tolist())
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
            _check_device_of_fork(self.synthesizer)
        checked = _checked_ids(ids)
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
        _check_names(batch, self.fields)
        for name, spec in self.fields.items():
            _check_field(name, batch[name], spec, ids, seeds, self._how_to_clamp())
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
        return {name: _spec_of(value) for name, value in (self.condition([0]) or {}).items()}

    def _how_to_clamp(self) -> str:
        return (
            "clip=True" if getattr(self.synthesizer, "clip", None) is False else "images.clamp(low, high) in the model"
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid())

    def __repr__(self) -> str:
        conditions = "" if self.conditions is None else f", {self.conditions!r}"
        return f"SyntheticSequence({self.synthesizer!r}{conditions}, seed={self.seed})"


def _check_conditions(synthesizer: Any, conditions: Any) -> None:
    """Raises where the synthesizer would refuse every sample: it says what it is conditioned on, and it is not that."""
    declared = {} if conditions is None else getattr(conditions, "fields", None)
    if declared is None:
        return
    classes = num_classes_of(synthesizer)
    required = set(synthesizer.condition_fields) if isinstance(synthesizer, Conditional) else set()
    needed = required | ({"label"} if classes is not None else set())
    missing = sorted(needed - set(declared))
    if missing:
        example = f" For its {classes} classes: ClassLabels({classes})." if "label" in missing else ""
        raise ConfigurationError(
            f"`conditions` must hold {missing}, which the synthesizer is conditioned on, got {sorted(declared)}. See "
            f"torchgenaug.conditions; several are joined by JointConditions.{example}"
        )
    limits = declared["label"].value_range if classes is not None else None
    if limits is not None and limits[1] >= (classes or 0):
        raise ConfigurationError(
            f"`conditions` must ask for labels in [0, {classes}), got {declared['label']}. Use ClassLabels({classes})."
        )


def _check_device_of_fork(synthesizer: Synthesizer) -> None:
    """Raises before CUDA does, which cannot be used after a fork and says so deep inside the model, or hangs."""
    device = device_of(synthesizer)
    if device.type == "cuda":
        raise ConfigurationError(
            f"`synthesizer` must not be on a CUDA device in a forked process, got {device} in process {os.getpid()}: "
            "CUDA does not survive a fork. Nothing was made. DataLoader workers are forked by default. "
            "Use a SyntheticPool(sequence, capacity), which makes them in the main process, or rendered samples, "
            "render_shards(sequence, 'shards', 1000); or spawn: DataLoader(..., multiprocessing_context='spawn')."
        )


def _checked_ids(ids: Sequence[int] | np.ndarray) -> np.ndarray:
    array = np.asarray(ids)
    if array.ndim != 1 or len(array) == 0:
        raise SampleIndexError(f"`ids` must be a non-empty list of sample numbers, got shape {array.shape}.")
    if array.dtype.kind not in "iu":
        raise SampleIndexError(f"`ids` must be integers, got {array.dtype}.")
    if array.min() < 0 or array.max() >= MAX_ID:
        raise SampleIndexError(f"`ids` must be in [0, 2^62), got {array.min()} to {array.max()}.")
    return array


def _check_names(batch: Mapping[str, Any], fields: Mapping[str, FieldSpec]) -> None:
    missing, surplus = sorted(fields.keys() - batch.keys()), sorted(batch.keys() - fields.keys())
    if missing or surplus:
        raise BadSampleError(
            f"A batch must hold the declared fields {sorted(fields)}; missing: {missing}, surplus: {surplus}. "
            "Let `synthesize` return exactly what `fields` declares (and what the conditions add)."
        )


def _check_field(
    name: str, value: object, spec: FieldSpec, ids: np.ndarray, seeds: np.ndarray, how_to_clamp: str
) -> None:
    """Raises `BadSampleError` unless `value` is what `spec` declares, sample by sample."""
    if not isinstance(value, Tensor):
        raise BadSampleError(f"Field {name!r} must be a tensor, got {type(value).__name__}.", ids=ids.tolist())
    expected = (len(ids), *spec.shape)
    if tuple(value.shape) != expected or value.dtype != spec.dtype:
        raise BadSampleError(
            f"Field {name!r} must be {spec.dtype!s} of shape {expected}, got {describe_value(value)}, "
            f"for ids {first_few(ids.tolist())} (seeds {first_few(seeds.tolist())}).",
            ids=ids.tolist(),
            seeds=seeds.tolist(),
        )
    if value.numel() == 0 or value.dtype == torch.bool:
        return
    # One pass finds NaN, Inf and range together: NaN propagates through aminmax, Inf shows as an extreme.
    comparable = value.to(torch.int64) if value.dtype in _UNSIGNED else value
    low, high = (extreme.item() for extreme in torch.aminmax(comparable))
    finite = low - low == 0 and high - high == 0
    limits = spec.value_range or (low, high)
    if value.dtype.is_floating_point:  # 0.1 as float32 is a little more than 0.1
        limits = (torch.tensor(limits[0], dtype=value.dtype).item(), torch.tensor(limits[1], dtype=value.dtype).item())
    if finite and limits[0] <= low and high <= limits[1]:
        return
    flat = comparable.flatten(1) if value.ndim > 1 else comparable[:, None]
    if not finite:
        bad, what, remedy = ~flat.isfinite().all(1), "holds NaN or Inf", ""
    else:
        bad = ((flat < limits[0]) | (flat > limits[1])).any(1)
        what = f"must stay in [{limits[0]:g}, {limits[1]:g}], got {low:g} to {high:g}"
        is_image = spec.kind == "intensity"
        remedy = f" If values leave it by a little only, clamp them: {how_to_clamp}." if is_image else ""
    rows = torch.nonzero(bad)[:, 0].cpu().numpy()
    bad_ids, bad_seeds = ids[rows].tolist(), seeds[rows].tolist()
    raise BadSampleError(
        f"Field {name!r} {what} in {len(rows)} of {len(ids)} samples: ids {first_few(bad_ids)} (seeds "
        f"{first_few(bad_seeds)}). "
        f"Nothing of this batch was used. Check the weights, the number of steps and the stated value range.{remedy}",
        ids=bad_ids,
        seeds=bad_seeds,
    )


def _spec_of(value: Tensor) -> FieldSpec:
    shape = tuple(value.shape[1:])
    if len(shape) < 2:
        return FieldSpec(shape, value.dtype, kind="scalar")
    return FieldSpec(shape, value.dtype, kind="intensity" if value.dtype.is_floating_point else "label_map")
