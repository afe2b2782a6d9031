"""Where a sample comes from: every sample can say whether it is synthetic, and from which model, seed and parent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from torchgenaug.contracts import SyntheticSource
from torchgenaug.mixing.dataset.map_source import MapSource
from torchgenaug.samples.layout import MEMBER, PARENT, Container


class Provenance(TypedDict):
    """Numbers and strings only, so that every collate function takes it; what does not apply is -1 or ""."""

    is_synthetic: bool
    index: int
    """Position in the real data set."""
    id: int
    """Number of the sample in its sequence (or position in a map-style synthetic set)."""
    seed: str
    """16 hexadecimal digits."""
    parent: int
    """Position of the real sample that the condition was taken from."""
    member: int
    """Which synthesizer of an `EnsembleSynthesizer`: index in its ``names``."""
    fingerprint: str
    """Of the sequence: model, conditions and base seed."""


def of_real(index: int) -> Provenance:
    """Provenance of real sample `index`."""
    return {"is_synthetic": False, "index": index, "id": -1, "seed": "", "parent": -1, "member": -1, "fingerprint": ""}


def of_synthetic(source: SyntheticSource | MapSource, position: int) -> Provenance:
    """Provenance of the sample that `source` holds at `position` now."""
    origin: Provenance = {**of_real(-1), "is_synthetic": True, "id": position}
    if not isinstance(source, MapSource):
        at = np.array([position])
        origin["id"], origin["seed"] = int(source.ids(at)[0]), f"{int(source.seeds(at)[0]):016x}"
        origin["fingerprint"] = fingerprints(source, at)[0]
        said = source.read(at) if {PARENT, MEMBER} & set(source.fields) else {}
        if PARENT in said:
            origin["parent"] = int(said[PARENT][0])
        if MEMBER in said:
            origin["member"] = int(said[MEMBER][0])
    return origin


def fingerprints(source: SyntheticSource, positions: npt.NDArray[np.int64]) -> list[str]:
    """The fingerprint of the sequence that each position's sample belongs to; a combined source has several."""
    each = getattr(source, "fingerprints", None)
    return [source.fingerprint] * len(positions) if each is None else list(each(positions))


def attach(sample: Any, container: Container, provenance: Mapping[str, Any]) -> Any:
    """A copy of the sample with its provenance: as ``"provenance"``, or as one more position of a tuple or list."""
    if container == "tensor":
        return (sample, provenance)
    if container == "tuple":
        return (*sample, provenance)
    if container == "list":
        return [*sample, provenance]
    if container == "subject":
        marked = type(sample)(dict(sample))
        marked["provenance"] = provenance
        return marked
    return {**sample, "provenance": provenance}
