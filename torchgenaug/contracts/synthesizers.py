"""What a synthesizer, its conditions and the checks of its samples must do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import nn

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
class ClassConditional(Protocol):
    """A synthesizer that may take a class label as the condition ``label``."""

    @property
    def num_classes(self) -> int | None:
        """Labels lie in [0, num_classes); None for an unconditional model."""
        ...


@runtime_checkable
class Conditional(Protocol):
    """A synthesizer that requires conditions."""

    @property
    def condition_fields(self) -> Mapping[str, FieldSpec]:
        """What the conditions of every sample must hold."""
        ...


@runtime_checkable
class Placed(Protocol):
    """A synthesizer that computes on one device."""

    @property
    def device(self) -> torch.device:
        """Where it computes, and where its samples are."""
        ...


@runtime_checkable
class Movable(Placed, Protocol):
    """A synthesizer whose weights a pool can keep elsewhere while nothing is generated (``offload=True``)."""

    def to(self, device: torch.device) -> object:
        """Moves the weights; samples must not change."""
        ...


@runtime_checkable
class Trained(Protocol):
    """A synthesizer or source that knows what its model was trained on."""

    trained_on: Mapping[str, Any] | None
    """JSON-ready: ``samples``, ``patients``, ``data``, …; None where unknown."""


class DenoisingModel(NamedTuple):
    """A diffusion model of images, ready to be called for one batch.

    Attributes:
        alphas: (times,) float32, the cumulative products ᾱ of its noise levels: noisy = √ᾱ · clean + √(1 - ᾱ) · noise.
        clean: function (noisy (batch, channels, *spatial) float32, index of the level) → the clean samples that the
            model predicts, float32.
        low: value of clean samples that stands for the lower end of the images' range.
        high: for the upper end.
    """

    alphas: torch.Tensor
    clean: Callable[[torch.Tensor, int], torch.Tensor]
    low: float
    high: float


@runtime_checkable
class Denoises(Protocol):
    """A diffusion model that can go on from any noise level, such as that of a noised real image."""

    def denoiser(self, count: int, conditions: Batch | None = None) -> DenoisingModel:
        """The model under the conditions of `count` samples."""
        ...


class Stored(NamedTuple):
    """What a synthesizer consists of.

    Attributes:
        settings: the constructor's arguments except networks and device, JSON-ready (dtypes as ``"float32"``).
        networks: each built by `build_network` or a model of diffusers.
        tensors: fitted numbers that are no network.
        parts: synthesizers inside this one.
    """

    settings: Mapping[str, Any]
    networks: Mapping[str, nn.Module] = {}
    tensors: Mapping[str, torch.Tensor] = {}
    parts: Mapping[str, Any] = {}

    def arguments(self, device: torch.device, dtype: torch.dtype | None) -> dict[str, Any]:
        """The settings as arguments of the constructor, `device` among them; `dtype` None: as saved.

        A CUDA graph is left out on other devices, which have none: it changes no sample.
        """
        arguments = dict(self.settings)
        if device.type != "cuda":
            arguments.pop("cuda_graph", None)
        return arguments | {"device": device, "dtype": dtype or getattr(torch, arguments["dtype"])}


@runtime_checkable
class Storable(Trained, Protocol):
    """A synthesizer that `save_synthesizer` can write."""

    family: ClassVar[str]

    @property
    def fingerprint(self) -> str:
        """As in `Synthesizer`."""
        ...

    def stored(self) -> Stored:
        """What it consists of; the networks themselves, not copies."""
        ...

    @classmethod
    def from_stored(cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None) -> Any:
        """The synthesizer that `stored` describes; `dtype` None: as saved."""
        ...


def device_of(synthesizer: object) -> torch.device:
    """The device of a `Placed` synthesizer; CPU for others."""
    return torch.device(synthesizer.device) if isinstance(synthesizer, Placed) else torch.device("cpu")


def num_classes_of(synthesizer: object) -> int | None:
    """The number of classes of a `ClassConditional` synthesizer; None for others, and for unconditional ones."""
    return synthesizer.num_classes if isinstance(synthesizer, ClassConditional) else None


def trained_on_of(part: object) -> Mapping[str, Any] | None:
    """What a `Trained` synthesizer or source was trained on; None where that is unknown."""
    return part.trained_on if isinstance(part, Trained) else None


def trained_on_all(parts: Mapping[str, object]) -> dict[str, Any] | None:
    """What several synthesizers or sources were trained on, together: JSON-ready; None if one of them does not know.

    ``samples`` and ``patients`` are those of all of them, if all name some; ``parts`` has the record of each.
    """
    each = {name: trained_on_of(part) for name, part in parts.items()}
    if None in each.values():
        return None
    joined: dict[str, Any] = {"parts": each}
    for key in ("samples", "patients"):
        if all(isinstance(record, Mapping) and key in record for record in each.values()):
            joined[key] = sorted({one for record in each.values() if record is not None for one in record[key]})
    return joined


@runtime_checkable
class Conditions(Protocol):
    """The conditions of each sample, such as class labels or masks: a pure function of ids.

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
class Redrawing(Protocol):
    """A screen whose rejected samples are generated again, from seeds that are a function of their own.

    It must judge each sample by itself, so that sample k is the same in every batch.
    """

    @property
    def redraws(self) -> int:
        """How often a sample is generated again before the error of the screen is raised."""
        ...
