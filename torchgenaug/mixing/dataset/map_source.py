"""`MapSource`: any map-style data set of synthetic samples, already in the real data set's own sample type."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug.contracts import Synthesizer
from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.samples.layout import SampleLayout, infer_kind, plain
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.types import FieldKind


class MapSource:
    """Synthetic samples from a data set with ``__len__`` and ``__getitem__`` whose samples look like the real ones.

    Args:
        dataset: the synthetic samples.
        layout: layout of the real samples.
        transformed: whether a transform of either side comes first; the samples are then not compared here.

    Raises:
        FieldMismatchError: the first synthetic sample is of another type, or has other fields, shapes or dtypes.
    """

    def __init__(self, dataset: Any, layout: SampleLayout, *, transformed: bool = False) -> None:
        self.dataset, self.layout = dataset, layout
        if len(dataset) and not transformed:
            self._check(dataset[0])

    def set_epoch(self, epoch: int) -> None:
        """Passes the epoch on, if the data set wants to know it."""
        move = getattr(self.dataset, "set_epoch", None)
        if callable(move):
            move(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def samples(self, positions: list[int]) -> list[Any]:
        """The samples at `positions`, as the data set hands them out."""
        dataset = self.dataset
        samples = (
            list(dataset.__getitems__(positions)) if reads_batches(dataset) else [dataset[place] for place in positions]
        )
        return [self.layout.restrict(sample) for sample in samples] if self._has_names else samples

    @property
    def one_by_one(self) -> bool:
        """Whether a sample is just what ``dataset[position]`` gives."""
        return not self._has_names and not reads_batches(self.dataset)

    @property
    def _has_names(self) -> bool:
        """Whether samples may hold more than the real ones do, which collating would drop or stumble over."""
        return self.layout.chosen and self.layout.container in ("dict", "subject")

    def labels(self, name: str) -> npt.NDArray[np.int64]:
        """A scalar field of all samples; reads every one of them."""
        return whole_labels((self.layout.split(self.dataset[k])[name] for k in range(len(self))), name)

    def kinds(self) -> Mapping[str, FieldKind]:
        """Kinds of the fields, judged by the real sample."""
        return {name: infer_kind(name, value) for name, value in self.layout.items(self.layout.template)}

    def _check(self, sample: Any) -> None:
        try:
            other = SampleLayout.of(sample, self.layout.names)
        except ConfigurationError as error:
            raise FieldMismatchError(f"Synthetic samples must look like the real ones. {error}") from error
        if other.container != self.layout.container:
            raise FieldMismatchError(
                f"Synthetic samples must be of the real samples' type, {self.layout.container}, got {other.container}."
            )
        problems = []
        if self.layout.container in ("dict", "subject") and not self.layout.chosen:
            surplus = [str(name) for name in sample if name not in self.layout.names]
            problems += [f"surplus {name!r}: leave it out with fields={self.layout.names!r}" for name in surplus]
        for (name, real), (_, synthetic) in zip(
            self.layout.items(self.layout.template), other.items(sample), strict=True
        ):
            expected, got = _describe(real), _describe(synthetic)
            if expected != got:
                problems.append(f"{name!r}: real {expected}, synthetic {got}")
        if problems:
            raise FieldMismatchError(
                "Synthetic samples must have the fields, shapes and dtypes of the real ones. Differences:\n  - "
                + "\n  - ".join(problems)
                + "\nConvert them in the synthetic data set, or with `synthetic_transform`."
            )


def read_labels(
    real: Any, layout: SampleLayout, match: str | Mapping[str, Sequence[int]]
) -> tuple[str, npt.NDArray[np.int64]]:
    """The name of the class field, and the class of each real sample: as given, or read once.

    Raises:
        ConfigurationError: not a field of the samples, or not whole numbers.
    """
    name = match if isinstance(match, str) else next(iter(match))
    if name not in layout.names:
        raise ConfigurationError(f"`match` must name a field of the samples {layout.names}, got {name!r}.")
    if not isinstance(match, str):
        return name, whole_labels(match[name], name)
    from tqdm import tqdm

    every = tqdm(range(len(real)), desc=f"reading {name!r} of the real samples", delay=3, leave=False)
    return name, whole_labels((layout.split(real[k])[name] for k in every), name)


def whole_labels(values: Iterable[Any], name: str) -> npt.NDArray[np.int64]:
    """Class labels as integers.

    Raises:
        ConfigurationError: something that is not a whole number.
    """
    raw = [value.item() if hasattr(value, "item") else value for value in values]
    for value in raw:
        if not isinstance(value, (int, float)) or value != int(value):
            raise ConfigurationError(
                f"`match` must name a field of class labels, whole numbers, got {value!r} in {name!r}. "
                "Map the classes to integers in the data set, or drop `match`."
            )
    return np.array(raw, np.int64)


def reads_batches(dataset: object) -> bool:
    """Whether a data set hands out whole batches, with ``__getitems__``."""
    return callable(getattr(dataset, "__getitems__", None))


def check_map_style(dataset: object, name: str) -> None:
    """Raises `ConfigurationError` unless `dataset`, the argument `name`, can be read by index."""
    if isinstance(dataset, SyntheticSequence):
        raise ConfigurationError(
            "`synthetic` must be a source that holds samples ready, got a SyntheticSequence, which makes them one call "
            "at a time. Wrap it: SyntheticPool(sequence, capacity=256), or render_shards(sequence, 'shards', 1000)."
        )
    if isinstance(dataset, (str, os.PathLike)):
        raise ConfigurationError(
            f"`{name}` must be a data set, got the path {str(dataset)!r}. Open it first: ShardSource({str(dataset)!r})."
        )
    if isinstance(dataset, Synthesizer):
        raise ConfigurationError(
            f"`{name}` must be a source that holds samples ready, got a synthesizer. "
            "Wrap it: SyntheticPool(SyntheticSequence(synthesizer), capacity=256)."
        )
    if isinstance(dataset, torch.nn.Module):
        raise ConfigurationError(
            f"`{name}` must be a data set, got the network {type(dataset).__name__}. Wrap it as a synthesizer first: "
            "SyntheticPool(SyntheticSequence(ModuleSynthesizer(network, ...)), capacity=256)."
        )
    readable = hasattr(dataset, "__getitem__") or (name == "synthetic" and hasattr(dataset, "read"))
    if not (readable and hasattr(dataset, "__len__")):
        raise ConfigurationError(
            f"`{name}` must be a map-style data set (with __getitem__ and __len__), got {type(dataset).__name__}. "
            "An iterable data set has no indices to replace; load it into a list, or wrap its DataLoader."
        )


def _describe(value: Any) -> str:
    data = plain(value)
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        return f"{tuple(data.shape)} {data.dtype}"
    return type(value).__name__
