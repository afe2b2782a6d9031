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
import operator
import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError

Int64Array: TypeAlias = npt.NDArray[np.int64]
UInt64Array: TypeAlias = npt.NDArray[np.uint64]

# What a seed is used for. Streams of different purposes never coincide.
SAMPLE, CONDITION, PLAN, TRANSFORM, REAL_TRANSFORM, SYNTHETIC_TRANSFORM, NOISE, STEP_NOISE, REDRAW = range(9)

_GAMMA, _MULTIPLY_1, _MULTIPLY_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_BLOCK = 65536  # elements hashed at once: their temporaries stay near the processor
_UPPER = 1 if sys.byteorder == "little" else 0  # which half of a 64-bit integer is its upper one
_CPU = torch.device("cpu")


def checked_seed(seed: object, name: str = "seed") -> int:
    """Returns a base seed as an int in [0, 2^63); integers of NumPy and torch are accepted.

    Raises:
        ConfigurationError: not an integer, or outside that range.
    """
    try:
        number = -1 if isinstance(seed, bool | np.bool_) else operator.index(seed)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if not 0 <= number < 1 << 63:
        raise ConfigurationError(f"`{name}` must be an integer in [0, 2^63), got {seed!r}.")
    return number


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
    """A fixed shuffle of ``range(size)``, the same for every version of numpy: in the order of its hashes.

    No memory but that of the result.
    """
    # The hash is a bijection: there are no ties, and a sorted hash still says which number it is of. To sort the hashes
    # and undo them is several times as fast as to sort an index by them.
    state, numbers = derive(seed, PLAN), np.arange(size, dtype=np.uint64)
    work = np.empty(min(size, _BLOCK), np.uint64)
    blocks = [numbers[start : start + _BLOCK] for start in range(0, size, _BLOCK)]
    gamma = np.uint64(_GAMMA)
    with np.errstate(over="ignore"):
        for block in blocks:
            block += gamma
            _mix_in_place(block, work[: len(block)])
            block ^= state
            block += gamma
            _mix_in_place(block, work[: len(block)])
        numbers.sort()
        for block in blocks:
            _unmix_in_place(block, work[: len(block)])
            block -= gamma
            block ^= state
            _unmix_in_place(block, work[: len(block)])
            block -= gamma
    return numbers.view(np.int64)


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
    keys = _as_uint64(seeds).reshape(-1)
    noise = torch.empty((len(keys), 2, half), device=device)
    if device.type == "cpu":
        _fill_on_cpu(noise, keys)
    else:
        counters = _mix_tensor(torch.arange(1, half + 1, device=device) * _signed(_GAMMA))
        bits = _mix_tensor(torch.from_numpy(keys.view(np.int64)).to(device)[:, None] ^ counters)
        _box_muller(noise, (bits >> 32).to(torch.float32), (bits & 0xFFFFFFFF).to(torch.float32))
    return noise.view(len(keys), 2 * half)[:, :size].reshape(len(keys), *shape)


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
        try:
            return np.array(values, dtype=np.uint64)  # several times as fast
        except (OverflowError, TypeError, ValueError):  # negative, or beyond 64 bits
            pass
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


def _mix_in_place(x: UInt64Array, work: UInt64Array) -> None:
    """`_mix` without new arrays; `work` is overwritten."""
    for shift, factor in ((30, _MULTIPLY_1), (27, _MULTIPLY_2), (31, None)):
        np.right_shift(x, np.uint64(shift), out=work)
        np.bitwise_xor(x, work, out=x)
        if factor is not None:
            np.multiply(x, np.uint64(factor), out=x)


def _unmix_in_place(x: UInt64Array, work: UInt64Array) -> None:
    """The inverse of `_mix_in_place`: x ^ (x >> s) is undone by x ^ (x >> s) ^ (x >> 2s), for s > 21."""
    for shift, factor in ((31, _MULTIPLY_2), (27, _MULTIPLY_1), (30, None)):
        np.right_shift(x, np.uint64(shift), out=work)
        np.bitwise_xor(x, work, out=x)
        np.right_shift(work, np.uint64(shift), out=work)
        np.bitwise_xor(x, work, out=x)
        if factor is not None:
            np.multiply(x, np.uint64(pow(factor, -1, 1 << 64)), out=x)


def _fill_on_cpu(noise: Tensor, keys: UInt64Array) -> None:
    """`_box_muller` of the hashed keys, the same numbers as on a device.

    Integers, sums and products by numpy, whose calls cost half as much and whose 64-bit shifts need no masks; the rest
    by torch, whose functions are vectorised. Its square root is not the nearest float32 everywhere, numpy's is:
    noise is what torch's gives.
    """
    count, _, half = noise.shape
    with np.errstate(over="ignore"):
        counters = np.arange(1, half + 1, dtype=np.uint64) * np.uint64(_GAMMA)
    _mix_in_place(counters, np.empty_like(counters))
    rows = max(1, min(_BLOCK // max(half, 1), count))
    bits, work = np.empty((2, rows, half), np.uint64)
    hashed, columns = torch.from_numpy(bits.view(np.int64)), torch.from_numpy(counters.view(np.int64))
    column_keys = torch.from_numpy(keys.astype(np.uint64).view(np.int64))[:, None]  # a copy: may be read-only
    # In the memory that hashing is done with: less of it stays nearer to the processor.
    upper, lower = torch.from_numpy(work.view(np.float32).reshape(2, rows, half))
    words = bits.view(np.uint32).reshape(rows, half, 2)
    for start in range(0, count, rows):
        size = min(rows, count - start)
        torch.bitwise_xor(column_keys[start : start + size], columns, out=hashed[:size])
        _mix_in_place(bits[:size], work[:size])
        radius, angle = upper[:size], lower[:size]
        _scaled(words[:size, :, _UPPER].view(np.int32), 2.0**-32, radius.numpy())
        _scaled(words[:size, :, 1 - _UPPER], math.pi * 2.0**-31, angle.numpy())
        shifted = radius.numpy()
        np.add(shifted, np.float32(0.5), out=shifted)
        np.maximum(shifted, np.float32(2.0**-33), out=shifted)
        radius.log_()
        np.multiply(shifted, np.float32(-2.0), out=shifted)
        radius.sqrt_()
        block = noise[start : start + size]
        torch.cos(angle, out=block[:, 0])
        torch.sin(angle, out=block[:, 1])
        block *= radius[:, None]


def _scaled(integers: npt.NDArray[Any], factor: float, out: npt.NDArray[np.float32]) -> None:
    np.copyto(out, integers, casting="unsafe")
    np.multiply(out, np.float32(factor), out=out)


def _box_muller(noise: Tensor, upper: Tensor, lower: Tensor) -> None:
    """Fills `noise`, (rows, 2, half), from 32-bit integers held as float32, (rows, half), which are overwritten.

    `upper`, signed, gives the radius and `lower`, unsigned, the angle.
    """
    # u in (0, 1]. Rounded to float32, one number in 2^26 comes out as 0, which has no logarithm.
    radius = upper.mul_(2.0**-32).add_(0.5).clamp_(min=2.0**-33).log_().mul_(-2.0).sqrt_()
    angle = lower.mul_(math.pi * 2.0**-31)
    torch.cos(angle, out=noise[:, 0])
    torch.sin(angle, out=noise[:, 1])
    noise *= radius[:, None]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
