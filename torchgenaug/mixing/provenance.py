"""Where a sample comes from: every sample can say whether it is synthetic, and from which model, seed and parent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from torchgenaug.contracts import Filtered, Joined, Scored, SyntheticSource
from torchgenaug.samples.layout import MEMBER, PARENT, Container, SampleLayout
from torchgenaug.types import Batch


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


def of_real_in(source: object) -> Callable[[int], Mapping[str, Any]]:
    """Position → provenance of a real sample in a mix with `source`: of one with scores it has a ``score`` of NaN.

    So all samples of a batch have the same entries.
    """
    entries = dict.fromkeys(selection(source, np.zeros(0, np.int64)), math.nan)
    return (lambda index: {**of_real(index), **entries}) if entries else of_real


def of_synthetic(
    source: SyntheticSource | object, positions: Sequence[int], read: Batch
) -> Sequence[Mapping[str, Any]]:
    """Provenance of the samples that `source` holds at `positions` now.

    Args:
        source: where they were read.
        positions: (n,).
        read: the batch that they were read as; ``parent`` and ``member`` are taken from it.

    Returns:
        A `Provenance` each, with the entries of `selection`.
    """
    if not isinstance(source, SyntheticSource):  # a map-style data set
        return [{**of_real(-1), "is_synthetic": True, "id": place} for place in positions]
    at = np.asarray(positions, np.int64)
    missing = np.full(len(at), -1).tolist()
    columns = (
        source.ids(at).tolist(),
        source.seeds(at).tolist(),
        read[PARENT].tolist() if PARENT in read else missing,
        read[MEMBER].tolist() if MEMBER in read else missing,
        fingerprints(source, at),
    )
    origins: list[Provenance] = [
        {
            "is_synthetic": True,
            "index": -1,
            "id": int(number),
            "seed": f"{int(seed):016x}",
            "parent": int(parent),
            "member": int(member),
            "fingerprint": fingerprint,
        }
        for number, seed, parent, member, fingerprint in zip(*columns, strict=True)
    ]
    chosen = {name: values.tolist() for name, values in selection(source, at).items()}
    return [{**origin, **{name: chosen[name][row] for name in chosen}} for row, origin in enumerate(origins)]


def selection(source: object, positions: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    """What a filter says about the samples at `positions`, (n,) float64 each.

    Returns:
        ``score`` of a `Scored` source, and ``acceptance_rate`` of a `Filtered` one; empty of any other.
    """
    if not isinstance(source, Scored):
        return {}
    found = {"score": source.scores_at(positions) if len(positions) else np.zeros(0)}
    if isinstance(source, Filtered):
        found["acceptance_rate"] = np.full(len(positions), source.acceptance_rate)
    return found


def fingerprints(source: SyntheticSource, positions: npt.NDArray[np.int64]) -> list[str]:
    """The fingerprint of the sequence that each position's sample belongs to; a combined source has several."""
    return source.fingerprints(positions) if isinstance(source, Joined) else [source.fingerprint] * len(positions)


def attach(sample: Any, layout: SampleLayout, provenance: Any) -> Any:
    """A copy of the sample with its provenance: as ``"provenance"``, or as one more position of a tuple or list.

    Of a list of crops each gets its own: `provenance` is a list of as many then, or one for all of them.
    """
    if layout.crops and isinstance(sample, list):
        each = provenance if isinstance(provenance, list) else [provenance] * len(sample)
        return [attach_to_one(part, layout.container, origin) for part, origin in zip(sample, each, strict=True)]
    return attach_to_one(sample, layout.container, provenance)


def attach_to_one(sample: Any, container: Container, provenance: Mapping[str, Any]) -> Any:
    """The same for a single sample, or a batch."""
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
