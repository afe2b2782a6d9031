"""`digest_of`: tells two functions or objects of the user's apart by what they compute with, not by their names."""

from __future__ import annotations

import dis
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_CHANGES = {"append", "extend", "insert", "pop", "remove", "clear", "add", "discard", "update", "setdefault", "popitem"}
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def digest_of(thing: Any) -> str:
    """sha256 over the code of a function and over the values that it was built with.

    Values are the defaults, what a function inside a function holds, the arguments of a `functools.partial`, the
    attributes of an object, the weights of a network; and the numbers, texts and functions that it reads from its own
    module. Functions that it calls in other modules count by their names. What the code itself changes, such as a count
    of its calls, is left out: it would be another one after each call.

    It may differ between versions of Python.
    """
    digest = hashlib.sha256()
    for part in _parts(thing, {}):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def weights_digest(network: nn.Module) -> str:
    """sha256 over the class of a network and its weights and buffers."""
    digest = hashlib.sha256(type(network).__qualname__.encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(_bytes_of(value))
    return digest.hexdigest()


def _parts(thing: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    if isinstance(thing, _PLAIN):
        yield repr(thing).encode(errors="surrogatepass")
        return
    if id(thing) in seen:
        yield b"seen"
        return
    seen[id(thing)] = thing  # kept alive, so that no other object gets its id
    yield type(thing).__qualname__.encode()
    if isinstance(thing, nn.Module):
        yield weights_digest(thing).encode()
    elif isinstance(thing, Tensor | np.ndarray):
        yield f"{thing.dtype} {tuple(thing.shape)}".encode()
        yield _bytes_of(thing) if isinstance(thing, Tensor) else np.ascontiguousarray(thing).tobytes()
    elif isinstance(thing, CodeType):
        yield thing.co_code
        yield from _each((thing.co_consts, thing.co_names), seen)
    elif isinstance(thing, FunctionType):
        yield f"{thing.__module__}.{thing.__qualname__}".encode()
        yield from _each(_inside(thing), seen)
    elif callable(inner := getattr(thing, "__wrapped__", None)):  # a cache around a function
        yield from _parts(inner, seen)
    elif isinstance(thing, MethodType):
        yield from _each((thing.__func__, thing.__self__), seen)
    elif isinstance(thing, functools.partial):
        yield from _each((thing.func, thing.args, thing.keywords), seen)
    elif isinstance(thing, Mapping):
        yield from _each(thing.items(), seen)
    elif isinstance(thing, list | tuple):
        yield from _each(thing, seen)
    elif isinstance(thing, set | frozenset):
        yield from _each(sorted(map(repr, thing)), seen)
    elif hasattr(thing, "__qualname__"):  # a class, or a function of a library
        yield f"{getattr(thing, '__module__', '')}.{thing.__qualname__}".encode()
    else:
        methods = [each for kind in type(thing).__mro__ for each in vars(kind).values()]
        codes = {each.__code__: each.__name__ for each in methods if isinstance(each, FunctionType)}
        yield from _each((type(thing), *codes), seen)
        changed = _Changes(*(code for code, name in codes.items() if name != "__init__"))
        yield from _each(changed.without(getattr(thing, "__dict__", {})), seen)


def _each(things: Iterable[Any], seen: dict[int, Any]) -> Iterator[bytes]:
    for thing in things:
        yield from _parts(thing, seen)


def _inside(function: FunctionType) -> Iterator[Any]:
    """The code of a function, and the values that it finds outside of its arguments."""
    yield function.__code__
    yield function.__defaults__
    yield function.__kwdefaults__
    yield from _Changes(function.__code__).without(_closure(function))
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        is_own = isinstance(value, FunctionType) and value.__module__ == function.__module__
        if is_own or isinstance(value, (*_PLAIN, tuple, nn.Module, Tensor, np.ndarray)):
            yield value


def _closure(function: FunctionType) -> dict[str, Any]:
    """What a function inside a function holds, by name."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # a name that was never given a value
            found[name] = cell.cell_contents
    return found


class _Changes:
    """Which of the values that it holds the code of a function gives other contents.

    Args:
        codes: of the function or the methods.
    """

    def __init__(self, *codes: CodeType) -> None:
        self._names: set[str] = set()
        self._fills = False
        for code in codes:
            self._look_at(code)

    def _look_at(self, code: CodeType) -> None:
        for step in dis.get_instructions(code):
            if step.opname in ("STORE_ATTR", "STORE_DEREF", "STORE_GLOBAL"):
                self._names.add(str(step.argval))
            self._fills |= step.opname == "STORE_SUBSCR" or step.argval in _CHANGES
        for each in code.co_consts:
            if isinstance(each, CodeType):
                self._look_at(each)

    def without(self, values: Mapping[str, Any]) -> Iterator[Any]:
        """Names and values that stay; of lists and dicts, where the code fills any, the type alone."""
        for name, value in values.items():
            if name not in self._names:
                yield name
                yield type(value) if self._fills and isinstance(value, dict | list | set) else value


def _bytes_of(tensor: Tensor) -> bytes:
    # By way of uint8: numpy has no bfloat16.
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    content: bytes = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return content


__all__ = ["digest_of", "weights_digest"]
