"""Exact shares: a number of positions divided in given proportions."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from torchgenaug.errors import ConfigurationError

_MAX_LENGTH = 1 << 40


def apportion(length: int, weights: Sequence[Fraction]) -> list[int]:
    """Integers that sum up to `length`, each less than 1 away from its exact share.

    References:
        The method of largest remainders (Hamilton, 1792).
    """
    total = sum(weights, Fraction(0))
    exact = [length * weight / total for weight in weights]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda k: (counts[k] - exact[k], k))
    for k in by_remainder[: length - sum(counts)]:
        counts[k] += 1
    return counts


def checked_weights(weights: Sequence[float], count: int) -> list[Fraction]:
    """`weights` as exact numbers; ConfigurationError unless they are `count` positive, finite ones."""
    try:
        exact = [Fraction(weight) for weight in weights]
    except (TypeError, ValueError, OverflowError):
        exact = []
    if len(exact) != count or not all(weight > 0 for weight in exact):
        raise ConfigurationError(
            f"`weights` must be {count} positive, finite numbers, got {weights!r}. Leave out what has no weight."
        )
    return exact


def shares_of(sizes: Sequence[int], weights: Sequence[float], length: int | None) -> list[int]:
    """How many of `length` positions each source gets; `length` None: the fewest at which every sample is used.

    Args:
        sizes: how many samples each source has.
        weights: one positive number per source.
        length: number of positions.

    Raises:
        ConfigurationError: weights or length outside their domains.
    """
    exact = checked_weights(weights, len(sizes))
    total = sum(exact, Fraction(0))
    if length is None:
        length = max(-(-size * total // weight) for size, weight in zip(sizes, exact, strict=True))
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= _MAX_LENGTH:
        raise ConfigurationError(
            f"`length` must be an integer in [1, {_MAX_LENGTH}], got {length!r}. With very unequal weights, state it."
        )
    return apportion(length, exact)
