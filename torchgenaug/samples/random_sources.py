"""What a transform may draw its random numbers from, found without running it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

import numpy as np
import torch
from torch import Tensor

_PLAIN = (bool, int, float, str, bytes, Path, Enum, np.generic, np.ndarray, np.random.RandomState, Tensor, torch.dtype)


_RESEEDING = ("RandomNoise", "Noise")  # as of torchio 1.2, the users of Transform._use_seed
_OWN_NOISE = "torchgenaug.samples.torchio_noise"  # what takes their place wherever we can put it there


def is_torchio_transform(transform: object) -> bool:
    """Whether `transform` is a TorchIO transform, without importing torchio."""
    return any(
        base.__name__ == "Transform" and base.__module__.startswith("torchio.") for base in type(transform).__mro__
    )


def draws_from_torch_only(part: object) -> bool:
    """Whether a transform is made of nothing but TorchIO's own classes, functions and plain values.

    TorchIO draws from torch's global generator alone; what users and other libraries put in (a `torchio.Lambda`, a
    MONAI transform, a masking function, a subclass) may draw from any. In doubt: no.
    """
    if part is None or isinstance(part, _PLAIN):
        return True
    if isinstance(part, Mapping):
        return all(draws_from_torch_only(one) for pair in part.items() for one in pair)
    if isinstance(part, (list, tuple, set, frozenset)):
        return all(map(draws_from_torch_only, part))
    if isinstance(part, (type, FunctionType)):
        return part.__module__.startswith("torchio.")
    own = is_torchio_transform(part) and type(part).__module__.startswith("torchio.")
    return own and all(map(draws_from_torch_only, vars(part).values()))


def keeps_to_torch(part: object, seen: frozenset[int] = frozenset()) -> bool:
    """Whether a transform surely draws from torch alone, or from random states of its own, or not at all.

    TorchIO's do, but for its noise, which seeds torch's global generators (`torchio_noise`); MONAI's have their ``R``;
    Python functions do whose code names nothing but builtins, torch and functions of the same kind. In doubt: no.
    """
    if part is None or isinstance(part, _PLAIN) or id(part) in seen:
        return True
    if is_torchio_transform(part) and type(part).__name__ in _RESEEDING:
        return False
    seen = seen | {id(part)}
    if isinstance(part, Mapping):
        return all(keeps_to_torch(one, seen) for one in part.values())
    if isinstance(part, (list, tuple, set, frozenset)):
        return all(keeps_to_torch(one, seen) for one in part)
    if isinstance(part, partial):
        return all(keeps_to_torch(one, seen) for one in (part.func, part.args, part.keywords))
    if isinstance(part, MethodType):
        return keeps_to_torch(part.__func__, seen) and keeps_to_torch(part.__self__, seen)
    if isinstance(part, FunctionType):
        return _is_known(part.__module__) or all(keeps_to_torch(each, seen) for each in _reached(part))
    if isinstance(part, ModuleType):
        return _is_known(part.__name__)
    if isinstance(part, type):
        return _is_known(part.__module__)
    if _is_known(type(part).__module__):
        return all(keeps_to_torch(one, seen) for one in getattr(part, "__dict__", {}).values())
    call = vars(type(part)).get("__call__")
    if isinstance(call, FunctionType):  # an object of a user's class
        return keeps_to_torch(call, seen) and all(keeps_to_torch(one, seen) for one in vars(part).values())
    return isinstance(part, BuiltinFunctionType) and _is_known(str(part.__module__))


def _is_known(module: str) -> bool:
    known = ("torch", "torchio", "monai", "math", "builtins", "_operator", "operator")
    return module == _OWN_NOISE or module.split(".")[0] in known


def _reached(function: FunctionType) -> Iterator[object]:
    """What the code of a function names: globals, what it closes over, defaults; numpy only if not its ``random``."""
    names = set(_names(function.__code__))
    if names & {"random", "__import__", "eval", "exec", "import_module"}:
        yield random
    for name in names & function.__globals__.keys():
        value = function.__globals__[name]
        yield None if value is np else value
    yield from (cell.cell_contents for cell in function.__closure__ or ())
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
