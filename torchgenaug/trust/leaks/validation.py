"""`validation_only`: refuses a validation or test set that holds synthetic samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.data import Dataset

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError
from torchgenaug.samples.inner_sets import inner_sets

Data = TypeVar("Data")

_DEPTH = 8
_INSIDE = ("dataset", "data", "real", "loader", "val_dataloaders", "test_dataloaders", "eval_dataset", "data_loader")
_SEVERAL = ("datasets", "loaders", "iterables", "flattened")


def validation_only(dataset: Data) -> Data:
    """Returns `dataset` unchanged if nothing in it is synthetic; refuses it otherwise.

    Looks through `Subset`, `ConcatDataset`, DataLoaders, MONAI's `Dataset`, data sets of your own that wrap others, and
    lists or dicts of these for a mix or a source of synthetic samples. Given a Lightning `Trainer`, a Hugging Face
    `Trainer` or a MONAI evaluator, it looks at the data that they validate on. A data set of your own that reads
    synthetic files cannot be recognised; a synthetic sample that says ``is_synthetic`` (`provenance=True`) can.

    Args:
        dataset: a data set or DataLoader for validation or test, or what holds one.

    Raises:
        ConfigurationError: synthetic samples would be in it.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> validation = validation_only(TensorDataset(torch.rand(4, 1, 8, 8)))
    """
    found = next(_synthetic_parts(dataset, _DEPTH, set()), None)
    if found is not None:
        raise ConfigurationError(
            f"`dataset` must hold real samples only, got {found}. A score on synthetic samples says how well the "
            "generator is imitated, not how well patients are served. Validate on real data: pass the data set that "
            "was held out from training and generator alike."
        )
    return dataset


def _synthetic_parts(part: Any, depth: int, visited: set[int]) -> Iterator[str]:
    """Names of what is synthetic in `part`."""
    if part is None or depth == 0 or id(part) in visited or isinstance(part, (Tensor, str, bytes, int, float)):
        return
    visited.add(id(part))
    if callable(getattr(part, "is_synthetic", None)) or _is_mixing_loader(part):
        yield f"a {type(part).__name__}, which mixes synthetic samples in"
        return
    if isinstance(part, SyntheticSource):
        yield f"a {type(part).__name__} of synthetic samples"
        return
    if isinstance(part, dict) and bool(part.get("is_synthetic", False)) is True:
        yield "a sample that says is_synthetic"
        return
    if isinstance(part, dict):
        inside = list(part.values())[:_MOST]
    elif isinstance(part, (list, tuple)):
        inside = list(part[:_MOST])
    else:
        inside = [getattr(part, name, None) for name in _INSIDE]
        for name in _SEVERAL:
            several = getattr(part, name, None)
            inside += list(several) if isinstance(several, (list, tuple)) else []
        if isinstance(part, Dataset):
            inside += inner_sets(part)
    for each in inside:
        yield from _synthetic_parts(each, depth - 1, visited)


_MOST = 64  # entries of a list that are looked at: a list of samples may be long


def _is_mixing_loader(part: Any) -> bool:
    return any(base.__name__ == "SyntheticMixLoader" for base in type(part).__mro__)
