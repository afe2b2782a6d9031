"""`validation_only`: refuses a validation or test set that holds synthetic samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError
from torchgenaug.samples.inner_sets import inner_sets
from torchgenaug.sequence import SyntheticSequence

Data = TypeVar("Data")

_INSIDE = ("dataset", "data", "real", "loader", "val_dataloaders", "test_dataloaders", "eval_dataset", "data_loader")
_SEVERAL = ("datasets", "loaders", "iterables", "flattened")


def validation_only(dataset: Data) -> Data:
    """Returns `dataset` unchanged if nothing in it is synthetic; refuses it otherwise.

    Looks through `Subset`, `ConcatDataset`, DataLoaders, MONAI's `Dataset`, data sets of your own that wrap others,
    functions and iterators that read them, and lists or dicts of these for a mix, a source of synthetic samples or a
    model that generates them. Given a Lightning `Trainer`, a Hugging Face
    `Trainer` or a MONAI evaluator, it looks at the data that they validate on. A data set of your own that reads
    synthetic files cannot be recognised; a synthetic sample that says ``is_synthetic`` (`provenance=True`) can.

    Args:
        dataset: a data set or DataLoader for validation or test, or what holds one.

    Raises:
        ConfigurationError: synthetic samples would be in it; or it is nothing that could be looked at, such as a
            Lightning `Trainer` that has not begun.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> validation = validation_only(TensorDataset(torch.rand(4, 1, 8, 8)))
    """
    if dataset is not None and not _can_be_looked_at(dataset):
        raise ConfigurationError(
            f"`dataset` must be a data set, a loader or a trainer that holds one, got {type(dataset).__name__} with "
            "nothing in it that could be looked at. Whether samples are synthetic is unknown. Pass the loader itself: "
            "validation_only(data.val_dataloader()); a Lightning Trainer has its loaders once it runs, where "
            "torchgenaug.lightning.SetEpoch looks at them."
        )
    found = next(_synthetic_parts(dataset), None)
    if found is not None:
        raise ConfigurationError(
            f"`dataset` must hold real samples only, got {found}. A score on synthetic samples says how well the "
            "generator is imitated, not how well patients are served. Validate on real data: pass the data set that "
            "was held out from training and generator alike."
        )
    return dataset


def _can_be_looked_at(dataset: Any) -> bool:
    if isinstance(dataset, (str, bytes, int, float)):
        return False
    readable = any(hasattr(type(dataset), name) for name in ("__getitem__", "__iter__")) or generates(dataset)
    return readable or any(getattr(dataset, name, None) is not None for name in (*_INSIDE, *_SEVERAL))


def _synthetic_parts(dataset: Any) -> Iterator[str]:
    """Names of what is synthetic in `dataset`."""
    waiting, visited = deque([dataset]), dict[int, Any]()  # kept, so that no other object gets the id of one
    while waiting and len(visited) < _MOST:
        part = waiting.popleft()
        if part is None or id(part) in visited or isinstance(part, _VALUES):
            continue
        visited[id(part)] = part
        if type(part) in (list, tuple):
            waiting += _inside(part)
        elif type(part) is dict:
            if _says_so(part):
                yield "a sample that says is_synthetic"
            waiting += _inside(part)
        elif callable(getattr(part, "is_synthetic", None)) or _is_mixing_loader(part):
            yield f"a {type(part).__name__}, which mixes synthetic samples in"
        elif generates(part):
            yield f"a {type(part).__name__}, which generates samples"
        elif isinstance(part, SyntheticSource):
            yield f"a {type(part).__name__} of synthetic samples"
        elif _says_so(part):
            yield "a sample that says is_synthetic"
        else:
            waiting += _inside(part)


def _inside(part: Any) -> Iterator[Any]:
    if isinstance(part, (dict, list, tuple)):
        for each in part.values() if isinstance(part, dict) else part:
            if not isinstance(each, _VALUES):
                yield each
    else:
        yield from (getattr(part, name, None) for name in _INSIDE)
        for name in _SEVERAL:
            several = getattr(part, name, None)
            yield from several if isinstance(several, (list, tuple)) else ()
        yield from inner_sets(part, generates)


def _says_so(part: Any) -> bool:
    """Whether a sample, or one in a table of Hugging Face's, states that it is synthetic."""
    if isinstance(part, dict):
        stated = part.get("is_synthetic", False)  # of a batch: one for each sample
        return bool(torch.as_tensor(stated).any()) if isinstance(stated, (Tensor, np.ndarray, list)) else bool(stated)
    columns = getattr(part, "column_names", None)
    return isinstance(columns, list) and "is_synthetic" in columns and any(part["is_synthetic"])


def generates(part: Any) -> bool:
    """Whether this is a sequence or a model that generates samples."""
    return isinstance(part, SyntheticSequence) or callable(getattr(type(part), "synthesize", None))


_VALUES = (Tensor, np.ndarray, str, bytes, int, float)
_MOST = 1 << 20  # things that are looked at: a list of samples may be long


def _is_mixing_loader(part: Any) -> bool:
    return any(base.__name__ == "SyntheticMixLoader" for base in type(part).__mro__)
