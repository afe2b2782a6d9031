"""`RealFields`: masks, images or other fields of real samples as conditions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.conditions.deform import ConditionTransform
from torchgenaug.conditions.shuffled_rows import shuffled_rows
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError
from torchgenaug.samples.own_copy import OwnCopy
from torchgenaug.types import Batch, FieldSpec

PARENT = "parent"
_HASHED_PARENTS, _COMPARED = 8, 4


class RealFields:
    """Conditions taken from a real map-style data set, with the index of the sample that they came from.

    Every real sample is used equally often: ids 0 … N - 1 go through all N of them in a random order, the next N in
    another one. Deterministic if the data set is; as picklable and as safe in workers and threads as it is.

    Args:
        dataset: anything with ``len`` and ``[index]`` whose samples are dicts, named tuples, tuples or lists (with
            `fields`), or `tio.Subject`s. It must return the same sample each time: leave random transforms out.
        names: field or fields to take.
        fields: names of the positions of tuple samples, ``("image", "mask")`` for example.
        transform: applied to the taken fields, all of a sample together, with random numbers of (seed, id): a TorchIO
            transform such as ``tio.RandomElasticDeformation()``, or a function of a dict of tensors. New masks for
            free: each time a real one is used, it is another. Masks are moved by nearest neighbour. Shapes and dtypes
            must stay.
        seed: another seed goes through the samples in another order.

    Attributes:
        fields: specs of the fields, read off sample 0, and ``parent``: int64 scalar, index in `dataset`. Images are
            (channels, *spatial); integers with spatial axes are label maps, and so is every `tio.LabelMap` (as int64).
        fingerprint: sha256 over names, seed, transform, the length of the data set, and the taken fields of 8 samples
            spread over it: cheap, so that a change of other samples goes unnoticed.

    Raises:
        EmptyDatasetError: a data set without samples.
        ConfigurationError: no length, unknown names, samples that change from one reading to the next, or a `transform`
            of fields without a channel axis.
        FieldMismatchError: samples that are not all of the same shape and dtype; raised when they are read.

    Example:
        >>> masks = [{"mask": torch.full((1, 4, 4), k)} for k in range(3)]
        >>> batch = RealFields(masks, "mask")(range(3))
        >>> sorted(batch["parent"].tolist())
        [0, 1, 2]
        >>> bool((batch["mask"][:, 0, 0, 0] == batch["parent"]).all())
        True
    """

    def __init__(
        self,
        dataset: Any,
        names: str | Sequence[str],
        *,
        fields: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        seed: int = 0,
    ) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise ConfigurationError(
                f"`dataset` must have a length and be indexed by integers, got {type(dataset).__name__}. "
                "Put the samples of an iterable data set into a list."
            )
        if len(dataset) == 0:
            raise EmptyDatasetError("`dataset` must hold at least one sample, got none. There is nothing to take from.")
        self.names = (names,) if isinstance(names, str) else tuple(names)
        if not self.names or PARENT in self.names or len(set(self.names)) < len(self.names):
            raise ConfigurationError(
                f"`names` must be different field names other than {PARENT!r}, got {self.names}. "
                f"{PARENT!r} holds the index of the real sample."
            )
        seed = seeding.checked_seed(seed)
        self.dataset, self.seed = dataset, seed
        self._own = OwnCopy(dataset)  # conditions are read in the main process, from which workers are forked
        self._positions = None if fields is None else tuple(fields)
        self._length = len(dataset)
        first = self._extract(0)
        # Several: half of all random flips do nothing.
        for index in sorted({k * (self._length - 1) // (_COMPARED - 1) for k in range(_COMPARED)}):
            one, again = self._extract(index), self._extract(index)
            for name in self.names:
                if not _same(one[name], again[name]):
                    raise ConfigurationError(
                        f"`dataset` must return the same sample each time, got two different {name!r} at index {index}."
                        " Conditions would not be reproducible. Pass the data set without its random transforms."
                    )
        self.fields: Mapping[str, FieldSpec] = {name: _spec(first[name]) for name in self.names} | {
            PARENT: FieldSpec((), torch.int64, kind="scalar", value_range=(0, max(1, self._length - 1)))
        }
        self._transform: ConditionTransform | None = None
        if transform is not None:
            taken = {name: self.fields[name] for name in self.names}
            flat = [name for name, spec in taken.items() if len(spec.shape) == 2]
            if flat:
                raise ConfigurationError(
                    f"`transform` needs images and masks of shape (channels, *spatial), got {flat} with two axes. It "
                    "would leave them where they are, while the others move. Add a channel axis: mask[None]."
                )
            self._transform = ConditionTransform(transform, taken, seed)
            self([0])  # a transform that does not fit is found now
        self._own.release()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over names, seed, length, transform, and the fields of 8 samples."""
        digest = hashlib.sha256(repr(("real fields", self.names, self.seed, self._length)).encode())
        if self._transform is not None:
            digest.update(self._transform.description.encode())
        for parent in sorted({k * (self._length - 1) // (_HASHED_PARENTS - 1) for k in range(_HASHED_PARENTS)}):
            for name, value in self._extract(parent).items():
                digest.update(f"{parent} {name} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        self._own.release()
        return digest.hexdigest()

    def parents(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Which real sample each of `ids` takes its fields from: (len(ids),) int64."""
        return shuffled_rows(self.seed, ids, self._length)

    def __call__(self, ids: Sequence[int]) -> Batch:
        """The fields of samples `ids` and their ``parent``; every tensor has the batch axis first."""
        parents = self.parents(ids)
        rows = [self._checked(self._extract(int(parent)), int(parent)) for parent in parents]
        if self._transform is not None:
            moved = self._transform(rows, ids)
            rows = [self._checked(row, int(parent), " transformed") for row, parent in zip(moved, parents, strict=True)]
        batch = {name: torch.stack([row[name] for row in rows]) for name in self.names}
        return batch | {PARENT: torch.from_numpy(parents)}

    def _checked(self, row: Mapping[str, Tensor], parent: int, when: str = "") -> Mapping[str, Tensor]:
        for name in self.names:
            spec, value = self.fields[name], row[name]
            if tuple(value.shape) != spec.shape or value.dtype != spec.dtype:
                source = "dataset" if not when else "transform"
                raise FieldMismatchError(
                    f"`{source}` must hold {name!r} as {spec.dtype} of shape {spec.shape}, as in sample 0, got "
                    f"{value.dtype} of shape {tuple(value.shape)} at index {parent}{when}. Crop or resample the data "
                    "set first."
                )
        return row

    def _extract(self, index: int) -> dict[str, Tensor]:
        sample = self._own[index]
        named: Any
        if isinstance(sample, Mapping):
            named = sample
        elif isinstance(sample, tuple | list) and self._positions is not None:
            named = dict(zip(self._positions, sample, strict=False))
        elif isinstance(sample, tuple) and hasattr(sample, "_asdict"):
            named = sample._asdict()
        else:
            raise ConfigurationError(
                f"`fields` must name the positions of samples of type {type(sample).__name__}, got "
                f"{self._positions!r}. For (image, mask) pairs pass fields=('image', 'mask')."
            )
        missing = [name for name in self.names if name not in named]
        if missing:
            raise ConfigurationError(
                f"`names` must be fields of the samples, got {missing} at index {index}, which has {sorted(named)}. "
                "Correct the names, or name the positions of a tuple with `fields`."
            )
        return {name: _tensor(named[name], name, index) for name in self.names}

    def __repr__(self) -> str:
        return f"RealFields({type(self.dataset).__name__} of {self._length}, {list(self.names)}, seed={self.seed})"


def _tensor(value: Any, name: str, index: int) -> Tensor:
    if type(value).__module__.startswith("torchio") and isinstance(getattr(value, "data", None), Tensor):
        tensor: Tensor = value.data
        is_labels = any(base.__name__ == "LabelMap" for base in type(value).__mro__)
        return tensor.to(torch.int64) if is_labels else tensor
    try:
        # float32 and int64 for plain numbers: the dtypes that torch's own collate gives them, but for doubles.
        return torch.as_tensor(value, dtype=torch.float32 if isinstance(value, float) else None).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"`names` must be fields that hold tensors, arrays or numbers, got {type(value).__name__} for {name!r} at "
            f"index {index}. Convert it in the data set."
        ) from error


def _same(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and torch.equal(one.nan_to_num(), two.nan_to_num())


def _spec(value: Tensor) -> FieldSpec:
    if value.ndim < 3:
        return FieldSpec(tuple(value.shape), value.dtype, kind="scalar")
    return FieldSpec(tuple(value.shape), value.dtype, kind="intensity" if value.is_floating_point() else "label_map")
