"""Finds the data sets that a data set reads from, under whatever names it keeps them."""

from __future__ import annotations

import functools
import gc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from types import BuiltinMethodType, FunctionType, GeneratorType, MethodType, MethodWrapperType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import Module
from torch.utils.data import DataLoader

_MOST_PARTS = 64  # of one data set that are looked at: a list of samples may be long
_MOST_VISITED = 256
_BOUND = (MethodType, BuiltinMethodType, MethodWrapperType)
_OPAQUE = (str, bytes, bytearray, memoryview, int, float, Tensor, np.ndarray, Module, ModuleType, type)


def inner_sets(dataset: Any, also: Callable[[Any], bool] | None = None) -> Iterator[Any]:
    """Yields what a data set holds that can be read by index or iterated over, itself not included.

    Subsets, concatenations, caches and wrappers of the user's own keep the data sets that they read from as attributes,
    or in lists and dicts, or in functions that read them. All attributes are looked at, without a call of the data
    set's own code, and one level deep: call it again for what lies further inside.

    Args:
        dataset: a data set, a loader, an iterator or a function that reads one; of anything else, such as a trainer,
            nothing is yielded.
        also: whether to yield what can neither be read by index nor iterated over.
    """
    if not _is_readable(dataset) and not _is_function(dataset):
        return
    whole = isinstance(dataset, dict | list | tuple) or _is_function(dataset)
    # Not `vars(dataset)`: CPython 3.11 and 3.12 read attributes more slowly for good once a `__dict__` was read.
    held = [dataset] if whole else gc.get_referents(dataset)
    if isinstance(dataset, DataLoader):  # what they are methods of is often another data set, which is not read
        held = [part for part in held if part is not dataset.collate_fn and part is not dataset.worker_init_fn]
        held = [_without_functions(part) if isinstance(part, dict) else part for part in held]
    waiting = deque(held)

    def wanted(part: Any) -> bool:
        return _is_readable(part) or _is_function(part) or (also is not None and also(part))

    for _ in range(_MOST_PARTS):
        if not waiting:
            return
        part = waiting.popleft()
        # Of dicts and lists alone, and by their own methods: the values of other mappings may lie in a file.
        if isinstance(part, dict):
            waiting += filter(wanted, islice(dict.values(part), _MOST_PARTS))
        elif isinstance(part, list):
            waiting += filter(wanted, islice(list.__iter__(part), _MOST_PARTS))
        elif isinstance(part, tuple):
            waiting += filter(wanted, islice(tuple.__iter__(part), _MOST_PARTS))
        elif _is_function(part):
            waiting += filter(wanted, _held_by(part))
        elif wanted(part):
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


def _without_functions(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in attributes.items() if name not in ("collate_fn", "worker_init_fn")}


def _is_function(part: Any) -> bool:
    return isinstance(part, (FunctionType, functools.partial, GeneratorType, *_BOUND))


def _held_by(function: Any) -> list[Any]:
    """What a function reads apart from its arguments and its module: defaults, closure, the object that it is of."""
    if isinstance(function, _BOUND):
        return [function.__self__]
    if isinstance(function, functools.partial):
        return [function.func, *function.args, *function.keywords.values()]
    if isinstance(function, GeneratorType):
        return [] if function.gi_frame is None else list(function.gi_frame.f_locals.values())
    found = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a name that was never given a value
            found.append(cell.cell_contents)
    return found


def _is_readable(part: Any) -> bool:
    kind = type(part)
    return not isinstance(part, _OPAQUE) and (hasattr(kind, "__getitem__") or hasattr(kind, "__iter__"))
