"""Finds the data sets that a data set reads from, under whatever names it keeps them."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator
from itertools import islice
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import Module

_MOST_PARTS = 64  # of one data set that are looked at: a list of samples may be long
_MOST_VISITED = 256
_OPAQUE = (str, bytes, bytearray, memoryview, int, float, Tensor, np.ndarray, Module, ModuleType, type)


def inner_sets(dataset: Any) -> Iterator[Any]:
    """Yields what a data set holds that can be read by index or iterated over, itself not included.

    Subsets, concatenations, caches and wrappers of the user's own keep the data sets that they read from as attributes,
    or in lists and dicts. All attributes are looked at, without a call of the data set's own code, and one level deep:
    call it again for what lies further inside.

    Args:
        dataset: a data set or a loader; of anything else, such as a trainer, nothing is yielded.
    """
    if not _is_readable(dataset):
        return
    # Not `vars(dataset)`: CPython 3.11 and 3.12 read attributes more slowly for good once a `__dict__` was asked for.
    waiting = deque([dataset] if isinstance(dataset, dict | list | tuple) else gc.get_referents(dataset))
    for _ in range(_MOST_PARTS):
        if not waiting:
            return
        part = waiting.popleft()
        # Of dicts and lists alone, and by their own methods: the values of other mappings may lie in a file.
        if isinstance(part, dict):
            waiting += filter(_is_readable, islice(dict.values(part), _MOST_PARTS))
        elif isinstance(part, list):
            waiting += filter(_is_readable, islice(list.__iter__(part), _MOST_PARTS))
        elif isinstance(part, tuple):
            waiting += filter(_is_readable, islice(tuple.__iter__(part), _MOST_PARTS))
        elif _is_readable(part):
            yield part


def find_inside(dataset: Any, kinds: tuple[type, ...]) -> Any:
    """The first of these kinds that a data set is, or holds however deep; None if there is none."""
    waiting, visited = deque([dataset]), set[int]()
    while waiting and len(visited) < _MOST_VISITED:
        part = waiting.popleft()
        if isinstance(part, kinds):
            return part
        if id(part) not in visited:
            visited.add(id(part))
            waiting += inner_sets(part)
    return None


def _is_readable(part: Any) -> bool:
    kind = type(part)
    return not isinstance(part, _OPAQUE) and (hasattr(kind, "__getitem__") or hasattr(kind, "__iter__"))
