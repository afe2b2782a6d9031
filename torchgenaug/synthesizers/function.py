"""`FunctionSynthesizer`: any callable as a synthesizer."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.checks import checked_fingerprint
from torchgenaug.types import Batch, FieldSpec

_TOLERANCE = 1e-3  # of the largest value
_MASK_TOLERANCE = 0.01  # of the elements

SynthesisFunction: TypeAlias = Callable[[Sequence[int], Batch | None], Batch]
"""(seeds, conditions) → one sample per seed: field → tensor, batch axis first."""


class FunctionSynthesizer:
    """A synthesizer made of a function: the way in for every model that has no adapter here.

    The function must be pure: each sample a function of its own seed and condition alone. Draw noise with
    `torchgenaug.seeding.normal`, never from a global generator; `torchgenaug.testing.SynthesizerConformance` checks it.
    If the first call moves a global generator of torch, numpy or Python on, it is made again and compared: a function
    that seeds the generator itself passes, one that does not is refused.
    Picklable if the function is: one that a module defines, not a lambda or a function inside a function.

    Args:
        function: called with the seeds (integers in [0, 2^64)) and the conditions (or None).
        fields: what it returns for every sample.
        fingerprint: any text that names the model and its settings, for example the sha256 of the weights file; change
            it whenever the samples change.

    Raises:
        ConfigurationError: a function that cannot be called, no fields, or an empty fingerprint.

    Example:
        >>> from torchgenaug import FieldSpec, seeding
        >>> def noise(seeds, conditions):
        ...     return {"image": seeding.normal(seeds, (1, 8, 8))}
        >>> synthesizer = FunctionSynthesizer(noise, {"image": FieldSpec((1, 8, 8))}, fingerprint="noise, version 1")
        >>> synthesizer.synthesize([0, 1])["image"].shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, function: SynthesisFunction, fields: Mapping[str, FieldSpec], *, fingerprint: str) -> None:
        if not callable(function):
            raise ConfigurationError(
                f"`function` must be callable as function(seeds, conditions), got {type(function).__name__}."
            )
        if not isinstance(fields, Mapping) or not fields:
            raise ConfigurationError(
                f"`fields` must say what every sample holds, got {fields!r}. "
                "For example {'image': FieldSpec((1, 64, 64), value_range=(0, 1))}."
            )
        for name, spec in fields.items():
            if not isinstance(name, str) or not isinstance(spec, FieldSpec):
                raise ConfigurationError(
                    f"`fields` must map names to FieldSpec, got {name!r}: {type(spec).__name__}. "
                    "For example {'image': FieldSpec((1, 64, 64), value_range=(0, 1))}."
                )
        fingerprint = checked_fingerprint(fingerprint, "model", "the sha256 of the weights file")
        self.function = function
        self.fields: Mapping[str, FieldSpec] = dict(fields)
        self.fingerprint = hashlib.sha256(f"function\n{fingerprint}".encode()).hexdigest()
        self._seen = False

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """What the function returns; see `torchgenaug.contracts.Synthesizer.synthesize`.

        Raises:
            ConfigurationError: the first call gave other samples when it was made again (see above).
        """
        if self._seen:
            return self.function(seeds, conditions)
        before = global_generators()
        batch = self.function(seeds, conditions)
        if global_generators() != before:
            first = {name: value.clone() for name, value in _tensors(batch).items()}
            batch = self.function(seeds, conditions)
            if not _same(first, _tensors(batch)):
                raise ConfigurationError(
                    "`function` must be a function of seeds and conditions alone, got other samples for the same "
                    f"seeds: {self!r} draws from a global generator. Nothing could be rendered again, resumed or "
                    "compared. Draw with torchgenaug.seeding.normal(seeds, shape), or seed it for each sample."
                )
        self._seen = True
        return batch

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"FunctionSynthesizer({name}, {list(self.fields)})"


def global_generators() -> tuple[object, ...]:
    """The states of the CPU generators that code draws from without saying so."""
    kind, keys, position, *rest = np.random.get_state()  # noqa: NPY002 (it is only looked at)
    return torch.get_rng_state().numpy().tobytes(), bytes(np.asarray(keys)), (kind, position, *rest), random.getstate()


def _tensors(batch: object) -> dict[str, torch.Tensor]:
    if not isinstance(batch, Mapping):
        return {}
    return {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}


def _same(first: dict[str, torch.Tensor], again: dict[str, torch.Tensor]) -> bool:
    """Whether they are equal but for rounding, which may turn single pixels of a mask."""
    for name, values in first.items():
        other = again.get(name)
        if other is None or other.shape != values.shape:
            return False
        if not values.numel():
            continue
        if not values.is_floating_point():
            if (values != other).double().mean() > _MASK_TOLERANCE:
                return False
        elif not torch.allclose(values, other, rtol=0, atol=_TOLERANCE * float(values.abs().max()), equal_nan=True):
            return False
    return True
