"""`EnsembleSynthesizer`: several synthesizers as one; each sample comes from one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug import seeding
from torchgenaug.contracts import ClassConditional, Stored, Synthesizer, device_of, num_classes_of, trained_on_all
from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.samples.layout import MEMBER
from torchgenaug.synthesizers.parts.checks import check_seeds
from torchgenaug.synthesizers.parts.fingerprints import settings_digest
from torchgenaug.types import Batch, FieldSpec

_MEMBER = 66  # purpose of seeds, apart from those of `torchgenaug.seeding`


class EnsembleSynthesizer:
    """Samples of several synthesizers, in proportion to weights; provenance says which made a sample.

    Which member makes a sample is a function of its seed, so the shares hold on average (over n samples ± about √n).
    Deterministic, and picklable if the members are.

    Args:
        members: name → synthesizer, all with the same fields.
        weights: name → share, any positive scale; default: all equal.

    Attributes:
        names: of the members, in the order of `members`.
        fields: those of every member, and ``member``: int64 scalar, index in `names`. It is provenance, never handed
            out as data; see `SyntheticMixDataset`'s `provenance`.

    Raises:
        ConfigurationError: no members, members of which only some have classes, or weights that do not fit.
        FieldMismatchError: members with other fields than the first; every difference is listed.

    Example:
        >>> from torchgenaug.testing import AnalyticSynthesizer
        >>> one = AnalyticSynthesizer((8, 8))
        >>> made = EnsembleSynthesizer({"a": one, "b": one}, {"a": 3, "b": 1}).synthesize(range(1000))
        >>> made["member"].bincount().tolist()
        [746, 254]
    """

    family: ClassVar[str] = "ensemble"

    def __init__(self, members: Mapping[str, Synthesizer], weights: Mapping[str, float] | None = None) -> None:
        if not isinstance(members, Mapping) or not members:
            raise ConfigurationError(f"`members` must map names to synthesizers, at least one, got {members!r}.")
        for name, member in members.items():
            if not isinstance(name, str) or not isinstance(member, Synthesizer):
                raise ConfigurationError(
                    f"`members` must map names to synthesizers, got {name!r}: {type(member).__name__}. For example "
                    "{'gan': ModuleSynthesizer(...), 'diffusion': DiffusersSynthesizer(...)}."
                )
        self.members: Mapping[str, Synthesizer] = dict(members)
        self.names = tuple(self.members)
        self.weights = _checked_weights(weights, self.names)
        self.trained_on: Mapping[str, Any] | None = trained_on_all(self.members)
        _check_fields(self.members)
        _check_classes(self.members)
        # One member has no range to state: FieldSpec wants low < high.
        limits = (0, len(self.names) - 1) if len(self.names) > 1 else None
        self.fields: Mapping[str, FieldSpec] = {
            **self.members[self.names[0]].fields,
            MEMBER: FieldSpec((), torch.int64, kind="scalar", value_range=limits),
        }

    @property
    def device(self) -> torch.device:
        """Where samples are made: a CUDA device if any member is on one."""
        devices = [device_of(member) for member in self.members.values()]
        return next((device for device in devices if device.type != "cpu"), devices[0])

    @property
    def num_classes(self) -> int | None:
        """Labels lie in [0, num_classes), as far as all members know them; None if none has classes."""
        counts = [num_classes_of(member) for member in self.members.values()]
        return min((count for count in counts if count is not None), default=None)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over members, their names, order and weights."""
        members = {name: member.fingerprint for name, member in self.members.items()}
        return settings_digest({"family": "ensemble", "members": members, "names": self.names, "weights": self.weights})

    def chosen(self, seeds: Sequence[int]) -> npt.NDArray[np.int64]:
        """Which member makes each sample: (len(seeds),) int64, indices in `names`."""
        derived = seeding.derive(np.array([int(seed) for seed in seeds], np.uint64), _MEMBER)
        shares = np.array([self.weights[name] for name in self.names])
        edges = np.cumsum(shares)[:-1] / shares.sum()
        places = np.searchsorted(edges, seeding.uniform(derived, 1)[:, 0], side="right")
        return places.astype(np.int64)

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One sample per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: those of the members.

        Raises:
            ConfigurationError: no seeds, or what a member raises.
        """
        check_seeds(seeds)
        chosen = torch.from_numpy(self.chosen(seeds))
        batch: Batch = {}
        for index in np.unique(chosen.numpy()).tolist():
            rows = (chosen == index).nonzero()[:, 0]
            name = self.names[index]
            try:
                made = self._part(name, [int(seeds[row]) for row in rows.tolist()], conditions, rows)
            except Exception as error:
                error.add_note(f"in member {name!r} of the ensemble")
                raise
            for field, value in made.items():
                if field not in batch:
                    batch[field] = torch.empty((len(seeds), *value.shape[1:]), dtype=value.dtype, device=self.device)
                batch[field][rows.to(self.device)] = value.to(self.device)
        return {**batch, MEMBER: chosen.to(self.device)}

    def stored(self) -> Stored:
        """What `save_synthesizer` writes."""
        return Stored({"names": list(self.names), "weights": dict(self.weights)}, parts=dict(self.members))

    @classmethod
    def from_stored(cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None) -> EnsembleSynthesizer:
        """The synthesizer that `stored` described; its members are on the device already."""
        members = {name: stored.parts[name] for name in stored.settings["names"]}
        return cls(members, stored.settings["weights"])

    def _part(self, name: str, seeds: list[int], conditions: Batch | None, rows: torch.Tensor) -> Batch:
        member = self.members[name]
        own = None
        if conditions is not None:
            own = {key: value[rows.to(value.device)] for key, value in conditions.items()}
        return member.synthesize(seeds, own)

    def __repr__(self) -> str:
        shares = ", ".join(f"{name!r}: {self.weights[name]:.3g}" for name in self.names)
        return f"EnsembleSynthesizer({{{shares}}})"


def _check_classes(members: Mapping[str, Synthesizer]) -> None:
    counts = {
        name: member.num_classes if isinstance(member, ClassConditional) else "unknown"
        for name, member in members.items()
    }
    if None in counts.values() and any(isinstance(count, int) for count in counts.values()):
        raise ConfigurationError(
            f"`members` must all have classes, or none of them, got num_classes {counts}. The samples of a member "
            "without classes would be handed out with labels of no meaning. Leave it out, or train one per "
            "class."
        )


def _checked_weights(weights: Mapping[str, float] | None, names: Sequence[str]) -> Mapping[str, float]:
    given = dict.fromkeys(names, 1.0) if weights is None else weights
    numbers = isinstance(given, Mapping) and set(given) == set(names)
    if numbers:
        values = np.array([given[name] for name in names], dtype=object)
        numbers = all(isinstance(value, int | float) and np.isfinite(value) and value > 0 for value in values)
    if not numbers:
        raise ConfigurationError(
            f"`weights` must give each of {list(names)} a positive number, got {weights!r}. Leave a member out of "
            "`members` instead of giving it 0."
        )
    return {name: float(given[name]) for name in names}


def _check_fields(members: Mapping[str, Synthesizer]) -> None:
    (first, model), *others = members.items()
    problems = []
    for name, member in others:
        for field in sorted(set(model.fields) | set(member.fields)):
            one, other = model.fields.get(field), member.fields.get(field)
            if one != other:
                problems.append(f"{field!r}: {first!r} {one or 'without it'}, {name!r} {other or 'without it'}")
    if any(MEMBER in member.fields for member in members.values()):
        raise ConfigurationError(
            f"`members` must not make a field {MEMBER!r}, which says which member made a sample. Put the members of an "
            "inner ensemble into this one."
        )
    if problems:
        raise FieldMismatchError(
            "`members` must all have the same fields, shapes, dtypes and ranges. Differences:\n  - "
            + "\n  - ".join(problems)
            + "\nGive the models one `value_range`, or train them on images of one size."
        )
