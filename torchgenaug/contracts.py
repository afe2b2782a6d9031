"""The whole extension surface: what a synthesizer, a condition, a screen and a source of samples must do.

Anything with these attributes fits; there is no base class to inherit and no registry to enter. The conformance suites
in `torchgenaug.testing` check an implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.types import Batch, FieldSpec


@runtime_checkable
class Synthesizer(Protocol):
    """A generative model as a pure function of seeds and conditions.

    Pure means: the same seeds and conditions give the same samples, whatever was called before, and sample k does not
    depend on the other samples of the batch (floating point may differ by about 1e-5 between batch sizes).
    """

    @property
    def fields(self) -> Mapping[str, FieldSpec]:
        """What every sample holds, without what merely repeats the condition: the sequence adds that."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal sha256 over everything that decides the samples: weights and sampling settings."""
        ...

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One sample per seed; every tensor has the batch axis first. Seeds are integers in [0, 2^64)."""
        ...


@runtime_checkable
class Conditions(Protocol):
    """What is asked of the synthesizer for each sample: a pure function of ids.

    An optional attribute ``fields: Mapping[str, FieldSpec]`` states what the fields are; without it the sequence reads
    the specs off the first sample.
    """

    @property
    def fingerprint(self) -> str:
        """Hexadecimal sha256 over everything that decides the conditions."""
        ...

    def __call__(self, ids: Sequence[int]) -> Batch:
        """The conditions of samples `ids`; every tensor has the batch axis first."""
        ...


@runtime_checkable
class Screen(Protocol):
    """A check of freshly made samples, beyond finite values, shape, dtype and range, which are always checked."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal sha256 over the settings."""
        ...

    def __call__(self, ids: Sequence[int], seeds: Sequence[int], batch: Batch) -> None:
        """Returns if all samples may pass; raises `BadSampleError`, with ids and seeds, if not."""
        ...


@runtime_checkable
class SyntheticSource(Protocol):
    """An indexed supply of synthetic samples: `SyntheticPool`, `ShardSource`, or your own.

    Read-only and safe in forked and spawned DataLoader workers. What a source may have beside:

    - ``set_epoch(epoch)``, called in the main process, where the content changes from epoch to epoch;
    - ``refreshes_per_epoch: int`` and ``set_epoch(epoch, part)``, with a part in ``range(refreshes_per_epoch)``, where
      it changes within an epoch, too;
    - ``read_into(positions, out)``: `read`, into tensors that are there: ``out`` has some of the fields, each a
      contiguous (n, *spec.shape) of the spec's dtype, on any device. `SyntheticMixLoader` saves a copy with it;
    - ``epoch: int``, ``part: int``, where it is, so that a mix notices when somebody else moved it; ``refresh``, the
      fraction that is replaced, which a saved state holds;
    - ``world_size: int``, above 1 where each of the processes that train together has samples of its own;
    - ``fingerprints(positions) -> list[str]``, for provenance, where it holds samples of several sequences.
    """

    @property
    def fields(self) -> Mapping[str, FieldSpec]:
        """What every sample holds."""
        ...

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the sequence that the samples belong to."""
        ...

    def __len__(self) -> int:
        """How many samples there are to choose from."""
        ...

    def read(self, positions: npt.NDArray[np.int64]) -> Batch:
        """Samples at `positions` (each in ``range(len(self))``, repeats allowed), stacked in that order."""
        ...

    def ids(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which sample of the sequence each position holds now."""
        ...

    def seeds(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """The seed that each position's sample was made from."""
        ...

    def column(self, field: str) -> torch.Tensor:
        """One scalar field of all samples, (len,), without reading any images."""
        ...
