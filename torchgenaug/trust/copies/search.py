"""Exact search for the largest cosine, in blocks that stay in the cache."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Groups = npt.NDArray[np.int64] | None

_QUERIES, _KEYS = 1024, 1024
"""Similarities that are computed at a time: 4 MiB stay in the cache between the product and the search for the largest.
Blocks of 64 MiB took twice the time."""
_BEST_OF = 8  # of so many keys of a large set, one comes to the shortlist


def search(variants: list[Tensor], keys: Tensor, own: Groups, mine: Groups) -> tuple[Tensor, Tensor]:
    """(distance, row) of the key with the largest cosine to any variant of each query."""
    distance, index, _ = search_with_shortlist(variants, keys, own, mine, 0)
    return distance, index


def search_with_shortlist(
    variants: list[Tensor], keys: Tensor, own: Groups, mine: Groups, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`search`, and a shortlist of the keys with the largest cosines.

    Args:
        variants: (n, features) each, of length 1: the queries, as many ways as they may be compared.
        keys: (m, features) of length 1.
        own: (m,) a group for each key.
        mine: (n,) a group for each query; keys of the same group do not count.
        count: length of the shortlist.

    Returns:
        (n,) distances 1 - cosine; (n,) rows, -1 for none; (n, k) rows of the shortlist, -1 for none. Of more than 1,024
        keys it may lack some: of eight keys one comes to it.
    """
    queries_count = len(variants[0])
    distance, index = torch.empty(queries_count), torch.empty(queries_count, dtype=torch.int64)
    shortlist = torch.empty((queries_count, min(count, len(keys))), dtype=torch.int64)
    groups = None if own is None or mine is None else (torch.as_tensor(own), torch.as_tensor(mine))
    memory = torch.empty((2, _QUERIES * _KEYS))  # fresh memory would cost as much as a product
    for start in range(0, queries_count, _QUERIES):
        rows = slice(start, min(start + _QUERIES, queries_count))
        queries = [variant[rows] for variant in variants]
        best = torch.full((len(queries[0]),), -torch.inf)
        where = torch.full((len(queries[0]),), -1, dtype=torch.int64)
        listed: list[tuple[Tensor, Tensor]] = []
        for first in range(0, len(keys), _KEYS):
            part = keys[first : first + _KEYS]
            size = len(queries[0]), len(part)
            largest, cosine = (each[: size[0] * size[1]].view(size) for each in memory)
            torch.mm(queries[0], part.T, out=largest)
            for query in queries[1:]:
                torch.maximum(largest, torch.mm(query, part.T, out=cosine), out=largest)
            if groups is not None:
                largest.masked_fill_(groups[1][rows, None] == groups[0][None, first : first + _KEYS], -torch.inf)
            if count:
                value, place = _listed(largest, whole=len(keys) <= _KEYS)
                listed.append((value, place + first))
            else:
                value, place = (each[:, None] for each in largest.max(1))
            value, at = value.max(1)
            place = place.gather(1, at[:, None])[:, 0]
            better = value > best
            best = torch.where(better, value, best)
            where = torch.where(better, place + first, where)
        # A product of rounded vectors loses the digits of small distances, where copies are: once more, directly.
        key = keys[where.clamp(min=0)].double()
        exact = torch.stack([(query.double() - key).square().sum(1) / 2 for query in queries]).amin(0)
        distance[rows] = torch.where(where < 0, torch.full_like(exact, torch.inf), exact).float()
        index[rows] = where
        if count and len(keys):
            values, places = (torch.cat(each, 1) for each in zip(*listed, strict=True))
            value, at = values.topk(shortlist.shape[1], dim=1)
            shortlist[rows] = places.gather(1, at).masked_fill(value == -torch.inf, -1)
    return distance, index, shortlist


def _listed(cosines: Tensor, *, whole: bool) -> tuple[Tensor, Tensor]:
    """Cosines and columns that may come to the shortlist: all of them, or the best of every few columns."""
    columns = cosines.shape[1]
    groups = columns // _BEST_OF
    if whole or columns % _BEST_OF or not groups:
        return cosines, torch.arange(columns).expand_as(cosines)
    # Neighbours in a set are often alike, so that they must not be in one group.
    value, place = cosines.view(len(cosines), _BEST_OF, groups).max(1)
    return value, place * groups + torch.arange(groups)


def nearest_others(variants: list[Tensor], keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(distances, rows) of the `count` keys with the largest cosines to any variant of each other key."""
    distances, rows = torch.empty((len(keys), count)), torch.empty((len(keys), count), dtype=torch.int64)
    for start in range(0, len(keys), _QUERIES):
        queries = [variant[start : start + _QUERIES] for variant in variants]
        best = torch.full((len(queries[0]), count), -torch.inf)
        where = torch.zeros((len(queries[0]), count), dtype=torch.int64)
        for first in range(0, len(keys), _KEYS):
            part = keys[first : first + _KEYS]
            largest = queries[0] @ part.T
            for query in queries[1:]:
                torch.maximum(largest, query @ part.T, out=largest)
            if first == start:  # blocks of queries and of keys are of one size
                largest.fill_diagonal_(-torch.inf)
            value, place = largest.topk(min(count, len(part)), dim=1)
            best, order = torch.cat([best, value], 1).topk(count, dim=1)
            where = torch.cat([where, place + first], 1).gather(1, order)
        distances[start : start + _QUERIES], rows[start : start + _QUERIES] = 1 - best, where
    return distances, rows
