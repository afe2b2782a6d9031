"""`FunctionSynthesizer`: any callable as a synthesizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from torchgenaug.errors import ConfigurationError
from torchgenaug.types import Batch, FieldSpec

SynthesisFunction: TypeAlias = Callable[[Sequence[int], Batch | None], Batch]
"""(seeds, conditions) → one sample per seed: field → tensor, batch axis first."""


class FunctionSynthesizer:
    """A synthesizer made of a function: the way in for every model that has no adapter here.

    The function must be pure: each sample a function of its own seed and condition alone. Draw noise with
    `torchgenaug.seeding.normal`, never from a global generator; `torchgenaug.testing.SynthesizerConformance` checks it.
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
        if not isinstance(fingerprint, str) or not fingerprint.strip():
            raise ConfigurationError(
                f"`fingerprint` must be a text that names the model and its settings, got {fingerprint!r}. Samples on "
                "disk are recognised by it. Use, for example, the sha256 of the weights file."
            )
        self.function = function
        self.fields: Mapping[str, FieldSpec] = dict(fields)
        self.fingerprint = hashlib.sha256(f"function\n{fingerprint}".encode()).hexdigest()

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """What the function returns; see `torchgenaug.contracts.Synthesizer.synthesize`."""
        return self.function(seeds, conditions)

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"FunctionSynthesizer({name}, {list(self.fields)})"
