"""`JointConditions`: several conditions for one model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from torchgenaug.contracts import Conditions
from torchgenaug.errors import ConfigurationError
from torchgenaug.types import Batch, FieldSpec


class JointConditions:
    """The fields of several conditions together, such as a class and covariates; each is drawn on its own.

    What belongs together in real data must come from one of them: `RealFields` or the rows of `Covariates`.
    Deterministic, and as picklable and safe in workers as its parts.

    Args:
        parts: conditions with different fields; each states its ``fields``.

    Attributes:
        fields: those of all parts.
        fingerprint: sha256 over those of the parts.

    Raises:
        ConfigurationError: no parts, or a field in two of them.

    Example:
        >>> from torchgenaug.conditions import ClassLabels, Covariates
        >>> sorted(JointConditions(ClassLabels(2), Covariates(ranges={"age": (20, 90)}))(range(2)))
        ['age', 'label']
    """

    def __init__(self, *parts: Conditions) -> None:
        fields: dict[str, FieldSpec] = {}
        for part in parts:
            if not isinstance(part, Conditions) or not isinstance(getattr(part, "fields", None), Mapping):
                raise ConfigurationError(
                    f"`parts` must be conditions that state their fields, got {type(part).__name__}. See "
                    "torchgenaug.conditions."
                )
            twice = sorted(set(fields) & set(part.fields))  # type: ignore[attr-defined]
            if twice:
                raise ConfigurationError(
                    f"`parts` must have different fields, got {twice} in two of them. Take both from one part, for "
                    "example RealFields(dataset, ['mask', 'label'])."
                )
            fields |= dict(part.fields)  # type: ignore[attr-defined]
        if not parts:
            raise ConfigurationError("`parts` must hold at least one condition, got none.")
        self.parts = tuple(parts)
        self.fields: Mapping[str, FieldSpec] = fields
        together = "\n".join(["joint", *(part.fingerprint for part in self.parts)])
        self.fingerprint = hashlib.sha256(together.encode()).hexdigest()

    def __call__(self, ids: Sequence[int]) -> Batch:
        """All conditions of samples `ids`."""
        batch: Batch = {}
        for part in self.parts:
            batch |= part(ids)
        return batch

    def __repr__(self) -> str:
        return f"JointConditions({', '.join(map(repr, self.parts))})"
