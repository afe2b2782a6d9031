"""`DiffusionSampler` and `Compute`: the settings that synthesizers share, as values or as single keywords."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Required, TypedDict

import torch

from torchgenaug.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class DiffusionSampler:
    """How a diffusion model is sampled.

    Every diffusion synthesizer takes it as ``sampler=DiffusionSampler(steps=20)`` or takes its attributes as keywords,
    ``steps=20``; not both.

    Attributes:
        steps: inference steps. Some schedulers (Heun, PNDM) call the network more often.
        solver: walk the scheduler's noise levels by another solver: "dpm++" or "unipc" (good from about 10 steps on),
            "ddim", "euler", "lcm" (1-8 steps, distilled networks only), "flow" (flow matching). For schedulers of
            diffusers; only the resulting scheduler is kept, not the name.
        guidance_scale: weight of classifier-free guidance, s in ``e = e_null + s (e_condition - e_null)``: 1 + w of Ho
            and Salimans (2022), equation 6. 1 or None: no guidance.
        clip: clamp images to the value range; otherwise they may overshoot by a quarter of its width, and their field
            says so.

    References:
        Ho, Salimans (2022). Classifier-free diffusion guidance. arXiv:2207.12598.
    """

    steps: int = 50
    solver: str | None = None
    guidance_scale: float | None = None
    clip: bool = False


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and how networks compute.

    Synthesizers take it as ``compute=Compute(device="cuda")`` or take its attributes as keywords, ``device="cuda"``;
    not both.

    Attributes:
        device: where networks compute and samples are created; None: where the given network is.
        dtype: dtype of weights and activations; None: float32. Latents between steps and samples are float32. Half
            precision pays on GPUs (bfloat16 for networks that overflow in float16) and on CPUs that compute in
            bfloat16; it moves samples by about 1e-2.
        channels_last: memory layout of convolution weights. None: channels last on a CPU, unchanged elsewhere. On GPUs
            it can pay with half precision and convolutions of 64 channels or more.
        compile: compile the network with torch.compile, once per batch size, which takes half a minute to minutes and
            pays from some thousands of samples on. True is "inductor"; or the name of another backend.
        cuda_graph: replay the network as a CUDA graph, captured once per batch size. Pays where the GPU waits for
            Python: small networks and small batches.
    """

    device: torch.device | str | None = None
    dtype: torch.dtype | None = None
    channels_last: bool | None = None
    compile: bool | str = False
    cuda_graph: bool = False


class ComputeOptions(TypedDict, total=False):
    """The attributes of `Compute` as keywords."""

    device: torch.device | str | None
    dtype: torch.dtype | None
    channels_last: bool | None
    compile: bool | str
    cuda_graph: bool


class DiffusionOptions(ComputeOptions, total=False):
    """The attributes of `DiffusionSampler` and `Compute` as keywords."""

    steps: int
    solver: str | None
    guidance_scale: float | None
    clip: bool


class DiffusionSettings(DiffusionOptions, total=False):
    """What every ``from_pretrained`` passes on to the constructor."""

    value_range: Required[tuple[float, float]]
    sampler: DiffusionSampler | None
    compute: Compute | None


def checked_options(
    owner: str, options: Mapping[str, Any], sampler: DiffusionSampler | None, compute: Compute | None, *own: type[Any]
) -> tuple[Any, ...]:
    """Returns the sampler, the compute, and a value of each class in `own`, built from keywords where not given.

    Args:
        owner: the name of the class, for errors.
        options: keywords, each an attribute of one of the values.
        sampler: a value in place of its keywords.
        compute: likewise.
        own: dataclasses of what only this synthesizer takes.

    Raises:
        TypeError: an unknown keyword, or another type than the value's.
        ConfigurationError: a keyword together with the value that holds it.
    """
    _check_known(owner, options, DiffusionSampler, Compute, *own)
    return (
        _one(DiffusionSampler, "sampler", sampler, options),
        _one(Compute, "compute", compute, options),
        *(kind(**_of(kind, options)) for kind in own),
    )


def checked_compute(owner: str, options: Mapping[str, Any], compute: Compute | None) -> Compute:
    """`checked_options` for synthesizers without steps."""
    _check_known(owner, options, Compute)
    checked: Compute = _one(Compute, "compute", compute, options)
    return checked


def unexpected_keyword(owner: str, name: str, known: set[str]) -> TypeError:
    """The error for a keyword that a constructor does not have."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else f" It takes {', '.join(sorted(known))}."
    return TypeError(f"{owner} got an unexpected keyword argument {name!r}.{hint}")


def _check_known(owner: str, options: Mapping[str, Any], *kinds: type[Any]) -> None:
    known = set().union(*map(_names, kinds))
    unknown = set(options) - known
    if unknown:
        raise unexpected_keyword(owner, min(unknown), known)


def _names(cls: type[Any]) -> set[str]:
    return {field.name for field in fields(cls)}


def _of(cls: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key in _names(cls)}


def _one(cls: type[Any], name: str, given: Any, options: Mapping[str, Any]) -> Any:
    own = _of(cls, options)
    if given is None:
        return cls(**own)
    if not isinstance(given, cls):
        raise TypeError(f"`{name}` must be a {cls.__name__}, got {type(given).__name__}.")
    if own:
        key = min(own)
        raise ConfigurationError(
            f"`{key}` must be given once, got it as a keyword and in `{name}`. Write {name}={cls.__name__}({key}=…)."
        )
    return given
