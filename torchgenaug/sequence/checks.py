"""Checks ids, conditions and generated batches of a sequence."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug.contracts import Conditional, Synthesizer, device_of, num_classes_of
from torchgenaug.devices import is_on_accelerator
from torchgenaug.errors import BadSampleError, ConfigurationError, SampleIndexError
from torchgenaug.texts import describe_value, first_few
from torchgenaug.types import FieldSpec

MAX_ID = 1 << 62
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # torch cannot compare these


def check_conditions(synthesizer: Any, conditions: Any) -> None:
    """Raises `ConfigurationError` where the conditions are not those that the synthesizer declares."""
    declared = {} if conditions is None else getattr(conditions, "fields", None)
    if declared is None:
        return
    classes = num_classes_of(synthesizer)
    required = set(synthesizer.condition_fields) if isinstance(synthesizer, Conditional) else set()
    needed = required | ({"label"} if classes is not None else set())
    missing = sorted(needed - set(declared))
    if missing:
        example = f" For its {classes} classes: ClassLabels({classes})." if "label" in missing else ""
        raise ConfigurationError(
            f"`conditions` must hold {missing}, which the synthesizer is conditioned on, got {sorted(declared)}. See "
            f"torchgenaug.conditions; several are joined by JointConditions.{example}"
        )
    limits = declared["label"].value_range if classes is not None else None
    if limits is not None and limits[1] >= (classes or 0):
        raise ConfigurationError(
            f"`conditions` must ask for labels in [0, {classes}), got {declared['label']}. Use ClassLabels({classes}), "
            f"or num_classes={classes} where the conditions are others."
        )


def check_device_of_fork(synthesizer: Synthesizer) -> None:
    """Raises before the GPU does, which cannot be used after a fork and says so deep inside the model, or hangs."""
    device = device_of(synthesizer)
    if is_on_accelerator(device):
        kind = "a CUDA device" if device.type == "cuda" else f"the device {device.type!r}"
        raise ConfigurationError(
            f"`synthesizer` must not be on {kind} in a forked process, got {device} in process {os.getpid()}: "
            f"{device.type.upper()} does not survive a fork. Nothing was made. DataLoader workers are forked by "
            "default. Use a SyntheticPool(sequence, capacity), which makes them in the main process, or rendered "
            "samples, render_shards(sequence, 'shards', 1000); or spawn: "
            "DataLoader(..., multiprocessing_context='spawn')."
        )


def checked_ids(ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """The ids as an array; SampleIndexError unless they are at least one integer in [0, 2^62)."""
    array = np.asarray(ids)
    if array.ndim != 1 or len(array) == 0:
        raise SampleIndexError(f"`ids` must be a non-empty list of sample numbers, got shape {array.shape}.")
    if array.dtype.kind not in "iu":
        raise SampleIndexError(f"`ids` must be integers, got {array.dtype}.")
    if array.min() < 0 or array.max() >= MAX_ID:
        raise SampleIndexError(f"`ids` must be in [0, 2^62), got {array.min()} to {array.max()}.")
    return array


def check_names(batch: Mapping[str, Any], fields: Mapping[str, FieldSpec]) -> None:
    """Raises `BadSampleError` unless the batch holds exactly these fields."""
    missing, surplus = sorted(fields.keys() - batch.keys()), sorted(batch.keys() - fields.keys())
    if missing or surplus:
        raise BadSampleError(
            f"A batch must hold the declared fields {sorted(fields)}; missing: {missing}, surplus: {surplus}. "
            "Let `synthesize` return exactly what `fields` declares (and what the conditions add)."
        )


def check_field(
    name: str, value: object, spec: FieldSpec, ids: np.ndarray, seeds: np.ndarray, how_to_clamp: str
) -> None:
    """Raises `BadSampleError` unless `value` is what `spec` declares, sample by sample."""
    if not isinstance(value, Tensor):
        raise BadSampleError(f"Field {name!r} must be a tensor, got {type(value).__name__}.", ids=ids.tolist())
    expected = (len(ids), *spec.shape)
    if tuple(value.shape) != expected or value.dtype != spec.dtype:
        raise BadSampleError(
            f"Field {name!r} must be {spec.dtype!s} of shape {expected}, got {describe_value(value)}, "
            f"for ids {first_few(ids.tolist())} (seeds {first_few(seeds.tolist())}).",
            ids=ids.tolist(),
            seeds=seeds.tolist(),
        )
    if value.numel() == 0 or value.dtype == torch.bool:
        return
    # One pass finds NaN, Inf and range together: NaN propagates through aminmax, Inf shows as an extreme.
    comparable = value.to(torch.int64) if value.dtype in _UNSIGNED else value
    low, high = (extreme.item() for extreme in torch.aminmax(comparable))
    finite = low - low == 0 and high - high == 0
    limits = spec.value_range or (low, high)
    if value.dtype.is_floating_point:  # 0.1 as float32 is a little more than 0.1
        limits = (torch.tensor(limits[0], dtype=value.dtype).item(), torch.tensor(limits[1], dtype=value.dtype).item())
    if finite and limits[0] <= low and high <= limits[1]:
        return
    flat = comparable.flatten(1) if value.ndim > 1 else comparable[:, None]
    if not finite:
        bad, what, remedy = ~flat.isfinite().all(1), "holds NaN or Inf", ""
    else:
        bad = ((flat < limits[0]) | (flat > limits[1])).any(1)
        what = f"must stay in [{limits[0]:g}, {limits[1]:g}], got {low:g} to {high:g}"
        is_image = spec.kind == "intensity"
        remedy = f" If values leave it by a little only, clamp them: {how_to_clamp}." if is_image else ""
    rows = torch.nonzero(bad)[:, 0].cpu().numpy()
    bad_ids, bad_seeds = ids[rows].tolist(), seeds[rows].tolist()
    raise BadSampleError(
        f"Field {name!r} {what} in {len(rows)} of {len(ids)} samples: ids {first_few(bad_ids)} (seeds "
        f"{first_few(bad_seeds)}). "
        f"Nothing of this batch was used. Check the weights, the number of steps and the stated value range.{remedy}",
        ids=bad_ids,
        seeds=bad_seeds,
    )


def spec_of(value: Tensor) -> FieldSpec:
    """The specification of a field, as far as a batch of it shows."""
    shape = tuple(value.shape[1:])
    if len(shape) < 2:
        return FieldSpec(shape, value.dtype, kind="scalar")
    return FieldSpec(shape, value.dtype, kind="intensity" if value.dtype.is_floating_point else "label_map")
