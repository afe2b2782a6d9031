"""`Opened`: what a mix finds out about its samples in the process that reads them, when the first one is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchgenaug import seeding
from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.dataset.map_source import MapSource
from torchgenaug.mixing.dataset.synthetic_side import MapSide, SourceSide
from torchgenaug.samples.kinds import infer_kind
from torchgenaug.samples.layout import Fields, SampleLayout
from torchgenaug.samples.own_copy import look_at
from torchgenaug.samples.seeded_transform import SeededTransform

Transform = Callable[[Any], Any]


@dataclass(frozen=True)
class Opened:
    """Layouts of the real samples, and everything that depends on them.

    Args:
        raw: layout of the samples that the real set returns.
        target: their layout after `real_transform`; synthetic samples get it, too.
        synthetic: reads the synthetic samples; None where there are none.
        real_transform: applied to real samples.
        transform: applied to all samples.
    """

    raw: SampleLayout
    target: SampleLayout
    synthetic: SourceSide | MapSide | None
    real_transform: SeededTransform | None
    transform: SeededTransform | None


def open_samples(
    real: Any,
    source: SyntheticSource | MapSource,
    fields: Fields | None,
    transforms: Sequence[Transform | None],
    *,
    seed: int,
    draws: bool,
) -> Opened:
    """Looks at real sample 0, and, of a map-style synthetic set, at its sample 0, through copies of the data sets.

    Args:
        real: the real data set.
        source: the synthetic samples.
        fields: names of the fields.
        transforms: for real samples, for synthetic ones, for all after that.
        seed: base seed.
        draws: whether synthetic samples will be read.

    Raises:
        ConfigurationError: samples without the names that they need.
        FieldMismatchError: synthetic samples do not fit the real ones; all differences are listed.
    """
    of_real, of_synthetic, of_all = transforms
    try:
        first = look_at(real, 0)
    except Exception as error:
        error.add_note("while reading real sample 0")
        raise
    raw = SampleLayout.of(first, fields)
    specs = {} if isinstance(source, MapSource) else source.fields
    by_source = {name: spec.kind for name, spec in specs.items()}
    kinds = {
        name: by_source.get(origin) or infer_kind(name, value)
        for (name, value), origin in zip(raw.items(raw.template), raw.sources, strict=True)
    }
    real_transform, target = None, raw
    if of_real is not None:
        real_transform = SeededTransform(of_real, raw, kinds)
        if raw.restricted:
            first = [raw.restrict(part) for part in first] if raw.crops else raw.restrict(first)
        target = raw.of_transformed(real_transform([first], seeding.derive(seed, seeding.PLAN, 0, np.zeros(1)))[0])
    synthetic: SourceSide | MapSide | None = None
    if draws:
        if isinstance(source, MapSource):
            synthetic = MapSide(source, raw, target, of_synthetic, look_at(source.dataset, 0))
        else:
            synthetic = SourceSide(source, raw, target, of_synthetic)
    final = {name: infer_kind(name, value) for name, value in target.items(target.template)}
    known = synthetic.kinds if synthetic is not None else kinds
    final.update({name: kind for name, kind in known.items() if name in final})
    return Opened(
        raw, target, synthetic, real_transform, None if of_all is None else SeededTransform(of_all, target, final)
    )


def check_provenance(layout: SampleLayout) -> None:
    """Raises `ConfigurationError` where samples of `layout` have no place for their provenance."""
    if "provenance" in layout.names:
        raise ConfigurationError(
            "`provenance` would overwrite the field 'provenance' that the real samples have. Rename it in the data set."
        )
    if layout.container == "namedtuple":
        raise ConfigurationError(
            "`provenance` cannot be added to a NamedTuple, whose fields are fixed. Let the real data set return a dict."
        )
