"""Randomness as a function: keys in, 64-bit seeds or noise out. No state, no history, the same on every machine.

torch's own CPU generator is no help here: it keeps only the low 32 bits of its seed (among 10^5 random seeds one pair
is then expected to agree, and two samples would be copies of each other), and it has to be set up once per sample. The
functions below hash instead: vectorised over samples, identical on CPU and GPU up to the last bit of ``cos``.

References:
    Steele, Lea, Flood (2014). Fast splittable pseudorandom number generators. OOPSLA (SplitMix64, figure 17).
    Box, Muller (1958). A note on the generation of random normal deviates. Ann. Math. Statist. 29, 610.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

UInt64Array: TypeAlias = npt.NDArray[np.uint64]

# What a seed is used for. Streams of different purposes never coincide.
SAMPLE, CONDITION, PLAN, TRANSFORM, REAL_TRANSFORM, SYNTHETIC_TRANSFORM, NOISE, STEP_NOISE = range(8)

_GAMMA, _MULTIPLY_1, _MULTIPLY_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_BLOCK = 32768  # elements hashed at once: their temporaries stay in the second-level cache
_CPU = torch.device("cpu")


def derive(*keys: int | npt.ArrayLike) -> UInt64Array:
    """64-bit seeds of integer keys, broadcast against each other.

    For fixed leading keys the map from the last key to the seed is one-to-one: two samples never share a seed.

    Args:
        keys: integers or integer arrays; taken modulo 2^64.

    Returns:
        uint64 array of the broadcast shape (0-d for scalars).

    Example:
        >>> derive(0, 1, [0, 1, 2]).shape
        (3,)
    """
    state: UInt64Array = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            state = _mix((state ^ _mix(_as_uint64(key) + np.uint64(_GAMMA))) + np.uint64(_GAMMA))
    return state


def permutation(seed: int, size: int) -> npt.NDArray[np.int64]:
    """A fixed shuffle of ``range(size)``, the same for every version of numpy."""
    order = np.argsort(derive(seed, PLAN, np.arange(size, dtype=np.uint64)), kind="stable")
    return order.astype(np.int64, copy=False)


def normal(seeds: Sequence[int] | UInt64Array, shape: Sequence[int], *, device: torch.device = _CPU) -> Tensor:
    """Standard normal noise, one independent field per seed.

    Sample k depends on ``seeds[k]`` and `shape` alone: neither on the batch that it is drawn in nor on torch's global
    state, and not on the device beyond 1e-5.

    Args:
        seeds: (batch,) integers, taken modulo 2^64.
        shape: shape of one sample.
        device: where the noise is made.

    Returns:
        (batch, *shape) float32, |value| < 6.8.
    """
    size = math.prod(shape)
    half = (size + 1) // 2
    counters = _mix_tensor(torch.arange(1, half + 1, device=device) * _signed(_GAMMA))
    keys = torch.from_numpy(_as_uint64(seeds).reshape(-1).view(np.int64)).to(device)
    noise = torch.empty((len(keys), 2 * half), device=device)
    rows = max(1, _BLOCK // max(half, 1)) if device.type == "cpu" else max(1, len(keys))
    for start in range(0, len(keys), rows):
        bits = _mix_tensor(keys[start : start + rows, None] ^ counters)
        # Box-Muller: the upper 32 bits give the radius, the lower 32 the angle. u in (0, 1): the logarithm is finite.
        upper = (bits >> 32).to(torch.float32).mul_(2.0**-32).add_(0.5 + 2.0**-33)
        radius = upper.clamp_(max=1.0).log_().mul_(-2.0).sqrt_()
        angle = (bits & 0xFFFFFFFF).to(torch.float32).mul_(math.pi * 2.0**-31)
        rows_out = noise[start : start + rows].view(-1, 2, half)
        torch.cos(angle, out=rows_out[:, 0])
        torch.sin(angle, out=rows_out[:, 1])
        rows_out *= radius[:, None]
    return noise[:, :size].reshape(len(keys), *shape)


def uniform(seeds: Sequence[int] | UInt64Array, count: int) -> npt.NDArray[np.float64]:
    """`count` uniform numbers in [0, 1) per seed: (batch, count) float64."""
    bits = derive(_as_uint64(seeds).reshape(-1, 1), np.arange(count, dtype=np.uint64))
    numbers: npt.NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def _as_uint64(values: int | npt.ArrayLike) -> UInt64Array:
    if isinstance(values, int):
        return np.asarray(values & 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
    if isinstance(values, np.ndarray):
        return values.astype(np.uint64, copy=False)
    if isinstance(values, Sequence):
        return np.array([int(value) & 0xFFFFFFFFFFFFFFFF for value in values], dtype=np.uint64)
    return np.asarray(values).astype(np.uint64)


def _mix(x: UInt64Array) -> UInt64Array:
    """The finaliser of SplitMix64: a bijection of 64-bit integers in which every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MULTIPLY_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MULTIPLY_2)
    return x ^ (x >> np.uint64(31))


def _mix_tensor(x: Tensor) -> Tensor:
    """`_mix` on an int64 tensor, in place; torch has no unsigned shift, so the sign bits are masked off."""
    for shift, factor in ((30, _MULTIPLY_1), (27, _MULTIPLY_2), (31, None)):
        shifted = (x >> shift).bitwise_and_((1 << (64 - shift)) - 1)
        x ^= shifted
        if factor is not None:
            x *= _signed(factor)
    return x


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
