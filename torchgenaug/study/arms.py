"""`Arm`: one way to fill the training set; real data repeated, transforms, synthetic data, mixes, and the oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.study.splits import Split
from torchgenaug.study.transforms import BatchAffine, BatchTransform, BatchTransformed

Role = Literal["control", "synthetic", "oracle", "reference"]
ROLES = ("control", "synthetic", "oracle", "reference")
Synthetic: TypeAlias = Any
"""A source or data set of synthetic samples, or a function `Split` → such a source."""


@dataclass(frozen=True)
class Arm:
    """One way to fill the training set.

    Attributes:
        name: unique in the study.
        role: ``"control"`` (uses no generator), ``"synthetic"``, ``"oracle"``: what perfect synthetic samples would
            give (where not even the oracle beats the controls, there is nothing to win), or ``"reference"``: shown for
            comparison alone, such as a method that needs data which may not leave their site.
        build: (split, seed) → the map-style data set that is trained on.
        source: split → the synthetic samples that `build` reads, which are searched for validation and test data; None:
            the data set of `build` itself is searched.
        settings: JSON-ready; a folder of results belongs to one set of settings.
    """

    name: str
    role: Role
    build: Callable[[Split, int], Any]
    source: Callable[[Split], Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def real_repeated(name: str = "real, repeated") -> Arm:
    """The control: the real training samples alone, repeated until the steps are done."""
    return Arm(name, "control", lambda split, seed: split.train, lambda split: split.train)


def real_transformed(transform: BatchTransform | None = None, name: str = "real, affine") -> Arm:
    """A control: real samples under classic transforms, drawn anew in each epoch."""
    chosen = transform or BatchAffine()
    return Arm(
        name,
        "control",
        lambda split, seed: BatchTransformed(SyntheticMixDataset(split.train, split.train, 0.0, seed=seed), chosen),
        lambda split: split.train,
        {"transform": repr(chosen)},
    )


def mixed(
    synthetic: Synthetic,
    ratio: float,
    *,
    fields: Sequence[str] | None = None,
    match: str | None = None,
    transform: BatchTransform | None = None,
    name: str | None = None,
) -> Arm:
    """Real samples of which a fraction is replaced by synthetic ones; ``ratio=1`` trains on synthetic samples only.

    Args:
        synthetic: a source or data set of synthetic samples, or a function `Split` → such a source, which is called
            once for each split.
        ratio: synthetic fraction.
        fields: as in `SyntheticMixDataset`.
        match: as in `SyntheticMixDataset`.
        transform: of real and synthetic samples alike.
        name: of the arm; default: from the ratio.
    """
    source = per_split(synthetic)

    def build(split: Split, seed: int) -> Any:
        data = SyntheticMixDataset(split.train, source(split), ratio, seed=seed, fields=fields, match=match)
        return data if transform is None else BatchTransformed(data, transform)

    if name is None:
        name = ("synthetic only" if ratio == 1 else f"mix {ratio:.0%}") + ("" if transform is None else ", affine")
    settings = {
        "ratio": ratio,
        "match": match,
        "transform": None if transform is None else repr(transform),
        "synthetic": describe(synthetic),
    }
    return Arm(name, "synthetic", build, source, settings)


def oracle(data: Callable[[Split], Any], transform: BatchTransform | None = None, name: str = "oracle") -> Arm:
    """What perfect synthetic samples would give: a function split → real samples that no other arm has.

    Args:
        data: `Split` → map-style data set; neither validation nor test samples.
        transform: of its samples; that of the best control, so that the two differ in the data alone.
        name: of the arm.
    """

    def build(split: Split, seed: int) -> Any:
        extra = data(split)
        if transform is None:
            return extra
        return BatchTransformed(SyntheticMixDataset(extra, extra, 0.0, seed=seed), transform)

    settings = {"data": describe(data), "transform": None if transform is None else repr(transform)}
    return Arm(name, "oracle", build, data, settings)


def standard_arms(
    synthetic: Synthetic,
    *,
    ratios: Sequence[float] = (0.25, 0.5, 0.75),
    transform: BatchTransform | None = None,
    fields: Sequence[str] | None = None,
    match: str | None = None,
    oracle_data: Callable[[Split], Any] | None = None,
) -> list[Arm]:
    """The arms of a plain study: two controls, synthetic only, a mix for each ratio, the middle one under transforms.

    Args:
        synthetic: see `mixed`, as `fields` and `match`.
        ratios: of the mixes.
        transform: the classic transforms; default: `BatchAffine`.
        fields: as in `SyntheticMixDataset`.
        match: as in `SyntheticMixDataset`.
        oracle_data: see `oracle`; its samples are trained on as they are and under `transform`. None: without an oracle
            the study cannot tell whether there was headroom.
    """
    if not ratios or not all(0 < ratio < 1 for ratio in ratios):
        raise ConfigurationError(
            f"`ratios` must be numbers between 0 and 1, got {list(ratios)}. 0 and 1 have arms of their own. For "
            "example (0.25, 0.5)."
        )
    chosen, supply = transform or BatchAffine(), per_split(synthetic)
    arms = [real_repeated(), real_transformed(chosen)]
    if oracle_data is not None:
        # Each transform of a control has its oracle: one under a transform that harms would hide headroom.
        arms += [oracle(oracle_data), oracle(oracle_data, chosen, "oracle, affine")]
    described = describe(synthetic)
    mixes = [mixed(supply, ratio, fields=fields, match=match) for ratio in (1.0, *ratios)]
    middle = ratios[len(ratios) // 2]
    mixes.append(mixed(supply, middle, fields=fields, match=match, transform=chosen))
    return arms + [
        Arm(arm.name, arm.role, arm.build, arm.source, {**arm.settings, "synthetic": described}) for arm in mixes
    ]


def per_split(synthetic: Synthetic) -> Callable[[Split], Any]:
    """A function split → source that makes each source once."""
    if not callable(synthetic) or hasattr(synthetic, "__len__"):
        return lambda split: synthetic
    built: dict[str, Any] = {}

    def source(split: Split) -> Any:
        if split.name not in built:
            built[split.name] = synthetic(split)
        return built[split.name]

    return source


def describe(value: Any) -> str:
    """What a folder of results remembers of a source or function."""
    known = getattr(value, "fingerprint", None) or getattr(value, "__qualname__", None)
    if isinstance(known, str):
        return known
    return f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else type(value).__name__
