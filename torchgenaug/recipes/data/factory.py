"""Training data from ``package.module:factory``: any map-style data set of dicts, tuples or `tio.Subject`s."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.import_name import call_by_name
from torchgenaug.recipes.data.scan import RawData, conform
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.samples.kinds import infer_kind
from torchgenaug.samples.own_copy import OwnCopy, is_in_memory
from torchgenaug.samples.torchio_values import is_subject, plain

_FIELDS = ("image", "label", "mask", "source")


def from_factory(name: str, size: int | Sequence[int] | None = None) -> TrainingData:
    """The data set that ``package.module:factory`` returns; modules are also looked for in the working directory.

    Samples: a dict (or `tio.Subject`) of ``image`` and, where there are, ``label``, ``mask``, ``source``, ``patient``;
    a tuple (image,), (image, label) or (image, mask); or an image alone. A label of None or NaN is
    not known. Images are (channels, *spatial) tensors or arrays, or PIL images. Every sample is read once here, see
    `conform`.

    Raises:
        ConfigurationError: no such function, or something else than a data set with a length; samples that cannot be
            trained on.
    """
    dataset = call_by_name(name, "DATA", "package.module:factory")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise ConfigurationError(
            f"DATA must give a map-style data set (with __len__ and __getitem__), got {type(dataset).__name__} from "
            f"{name!r}. Let the function return a torch.utils.data.Dataset, not a loader or an iterable."
        )
    samples, count = FactorySamples(dataset), len(dataset)
    raw = RawData(samples, name, tuple(f"{name} row {k}" for k in range(count)), _place)
    data = conform(raw, size)
    samples.release()
    remarks = data.remarks
    if samples.ignored:
        remarks = (f"Fields that no family uses were left out: {', '.join(samples.ignored)}.", *remarks)
    return replace(data, patients=_patients(samples.patients, count), remarks=remarks)


def _patients(found: Mapping[int, str], count: int) -> tuple[str, ...]:
    missing = next((k for k in range(count) if k not in found), None)
    if found and missing is not None:
        raise ConfigurationError(
            f"Every sample or none must have a 'patient', got none at index {missing}. Complete it."
        )
    return tuple(found[k] for k in range(count)) if found else ()


class FactorySamples:
    """The samples of a data set as dicts of tensors, channels first.

    Each process reads a copy of its own, so that no handle that the data set opens at its first read is shared with
    workers.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset if is_in_memory(dataset) else OwnCopy(dataset)
        self.patients: dict[int, str] = {}
        self.ignored: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.dataset)

    def release(self) -> None:
        """Lets go what this process opened, before workers are started."""
        if isinstance(self.dataset, OwnCopy):
            self.dataset.release()

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        try:
            sample = self.dataset[index]
        except Exception as error:
            error.add_note(f"while sample {index} of the data set was read")
            raise
        if isinstance(sample, Mapping):
            if "patient" in sample:
                self.patients[index] = str(sample["patient"])
            used = {*_names(sample, index).values(), "patient"}
            self.ignored = tuple(str(key) for key in sample if key not in used)
        return _fields(sample, index)


def _fields(sample: Any, index: int) -> dict[str, Tensor]:
    if isinstance(sample, Mapping):
        names = _names(sample, index)
        fields = {field: plain(sample[key]) for field, key in names.items()}
    elif isinstance(sample, (tuple, list)):
        fields = _positions(sample, index)
    else:
        fields = {"image": sample}
    tensors = {name: _tensor(name, value, index) for name, value in fields.items()}
    image = tensors["image"]
    for name in ("mask", "source"):
        if name in tensors and tensors[name].ndim == image.ndim - 1:
            tensors[name] = tensors[name][None]
    if image.ndim == 4 and image.shape[-1] == 1:  # torchio's 2D images
        tensors |= {name: value[..., 0] for name, value in tensors.items() if value.ndim == 4}
    return tensors


def _names(sample: Mapping[str, Any], index: int) -> dict[str, str]:
    """Field → key of the sample."""
    names = {name: name for name in _FIELDS if name in sample and (name == "label" or sample[name] is not None)}
    if is_subject(sample):
        for field, kind in (("image", "intensity"), ("mask", "label_map")):
            keys = [key for key, value in sample.items() if _is_image(value) and infer_kind(key, value) == kind]
            if field not in names and len(keys) == 1 and keys[0] not in names.values():
                names[field] = keys[0]
    if "image" not in names:
        raise ConfigurationError(
            f"A sample must have a field 'image' (and perhaps 'label', 'mask', 'source', 'patient'), got "
            f"{sorted(map(str, sample))} at index {index}. Rename its fields."
        )
    return names


def _positions(sample: Sequence[Any], index: int) -> dict[str, Any]:
    if len(sample) == 1:
        return {"image": sample[0]}
    if len(sample) == 2:
        image, second = (_tensor("image", sample[0], index), _tensor("second", sample[1], index))
        if second.numel() == 1 and bool(torch.isnan(second.float())):
            return {"image": image, "label": second}
        whole = not second.dtype.is_floating_point and not second.dtype.is_complex
        if second.numel() == 1 and whole:
            return {"image": image, "label": second}
        if image.shape[1:] == second.shape[-image.ndim + 1 :] and second.numel() == image[0].numel() and whole:
            return {"image": image, "mask": second}
        got = f"(image {tuple(image.shape)}, {tuple(second.shape)} {str(second.dtype).removeprefix('torch.')})"
    else:
        got = f"{len(sample)} of them"
    raise ConfigurationError(
        "A tuple must be (image,), (image, label) with a whole number, or (image, mask) with a mask of integers of "
        f"its size, got {got} at index {index}. Return a dict instead: {{'image': …, 'source': …}}."
    )


def _tensor(name: str, value: Any, index: int) -> Tensor:
    if type(value).__module__.startswith("PIL."):
        value = np.array(value)
        value = value if value.ndim == 2 else np.moveaxis(value, -1, 0)
    if value is None and name in ("label", "second"):
        value = math.nan
    if isinstance(value, np.ndarray) and value.dtype == np.uint16:
        value = value.astype(np.int32)
    try:
        tensor = torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"The {name} must be a tensor, an array or a number, got {type(value).__name__} at index {index}."
        ) from error
    if tensor.dtype == torch.bool:
        tensor = tensor.long()
    return tensor[None] if name == "image" and tensor.ndim == 2 else tensor


def _is_image(value: Any) -> bool:
    return type(value).__module__.startswith("torchio.") and hasattr(value, "data")


def _place(index: int) -> str:
    return f"index {index}"
