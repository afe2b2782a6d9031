"""`write_nnunet`: a data set for nnU-Net, with synthetic cases in the training folds only.

The layout is that of nnU-Net v2 (https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md): ``imagesTr``
holds ``CASE_0000.nii.gz``, a file for each channel, ``labelsTr`` holds ``CASE.nii.gz``, and ``dataset.json`` names
channels and labels. ``splits_final.json`` belongs into the folder that nnU-Net preprocesses into.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from torchgenaug import seeding
from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, FieldMismatchError

_FILE_ENDING = ".nii.gz"


def write_nnunet(
    folder: str | os.PathLike[str],
    real: Iterable[Mapping[str, Any]],
    synthetic: SyntheticSource,
    count: int,
    *,
    labels: Mapping[str, int],
    channels: Sequence[str] = ("image",),
    affine: Any = None,
    folds: int = 5,
    seed: int = 0,
) -> list[dict[str, list[str]]]:
    """Writes real and synthetic cases as a raw data set of nnU-Net, and the splits for its cross-validation.

    Each real case is validated in exactly one fold; synthetic cases are trained on in all folds and validated in none.

    Args:
        folder: the data set's folder, such as ``nnUNet_raw/Dataset501_Brain``; created. Cases that are there stay.
        real: samples with ``image`` (channels, *spatial) and ``mask`` (1, *spatial) or (*spatial) tensors, 2D or 3D; a
            string under ``case`` (optional) names the case, an ``affine`` (4, 4) under ``affine`` (optional) places it.
        synthetic: a source with the fields ``image`` and ``mask``.
        count: how many synthetic cases: positions 0 to ``count - 1`` of the source.
        labels: names of the classes and their numbers in the masks: 0, 1, 2 and so on, with ``"background": 0``.
        channels: a name for each channel.
        affine: voxel to world in mm, (4, 4), of the synthetic cases, and of real ones that do not say; default: 1 mm.
        folds: number of folds.
        seed: decides which real case is in which fold, in [0, 2^63).

    Returns:
        The splits, as ``splits_final.json`` holds them: for each fold ``{"train": [...], "val": [...]}``.

    Raises:
        ConfigurationError: fewer real cases than folds; more synthetic cases than the source has; `labels` without
            ``"background": 0``, with a gap, or without a value that a mask holds.
        FieldMismatchError: the source or a sample lacks ``image`` or ``mask``; another number of channels; a mask of
            another shape than its image, or not of whole numbers.

    Warns:
        UserWarning: labels that no mask holds.
    """
    classes = _Classes(labels)
    if not {"image", "mask"} <= set(synthetic.fields):
        raise FieldMismatchError(
            f"`synthetic` must have the fields 'image' and 'mask', got {sorted(synthetic.fields)}. nnU-Net trains on "
            "pairs of both. Generate masks as well, for example with TwoStageSynthesizer."
        )
    if not 0 <= count <= len(synthetic):
        raise ConfigurationError(
            f"`count` must be in [0, {len(synthetic)}], the number of samples of `synthetic`, got {count}. Render more "
            "with render_shards(sequence, path, count)."
        )
    root = Path(folder)
    for part in ("imagesTr", "labelsTr"):
        (root / part).mkdir(parents=True, exist_ok=True)
    place = np.eye(4) if affine is None else np.asarray(affine, np.float64)
    real_cases = []
    for number, sample in enumerate(real):
        case = str(sample.get("case", f"real_{number:05d}"))
        _write_case(root, case, sample, channels, np.asarray(sample.get("affine", place), np.float64), classes)
        real_cases.append(case)
    splits = _splits(real_cases, [f"synthetic_{number:05d}" for number in range(count)], folds, seed)
    for number in range(count):
        batch = synthetic.read(np.array([number]))
        sample = {name: batch[name][0] for name in ("image", "mask")}
        _write_case(root, f"synthetic_{number:05d}", sample, channels, place, classes)
    classes.warn_of_unseen()
    description = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": dict(labels),
        "numTraining": len(real_cases) + count,
        "file_ending": _FILE_ENDING,
    }
    (root / "dataset.json").write_text(json.dumps(description, indent=2))
    (root / "splits_final.json").write_text(json.dumps(splits, indent=2))
    return splits


def _splits(real: list[str], synthetic: list[str], folds: int, seed: int) -> list[dict[str, list[str]]]:
    if not 2 <= folds <= len(real):
        raise ConfigurationError(
            f"`folds` must be in [2, {len(real)}], the number of real cases, got {folds}. A fold without a real case "
            "could not be validated. Write more real cases, or use fewer folds."
        )
    if len(set(real) | set(synthetic)) < len(real) + len(synthetic):
        raise ConfigurationError("Cases must have different names, got one twice. It would be overwritten; rename it.")
    order = seeding.permutation(seeding.checked_seed(seed), len(real))
    validated = [sorted(real[place] for place in order[fold::folds]) for fold in range(folds)]
    return [{"train": sorted(set(real) - set(held_out)) + synthetic, "val": held_out} for held_out in validated]


class _Classes:
    """The labels of a data set, compared with the values that its masks hold."""

    def __init__(self, labels: Mapping[str, int]) -> None:
        if labels.get("background") != 0 or sorted(labels.values()) != list(range(len(labels))):
            raise ConfigurationError(
                f"`labels` must be numbers from 0 on, without a gap, with 'background' as 0, got {dict(labels)}. "
                "nnU-Net refuses others. Renumber the masks, for example labels={'background': 0, 'lesion': 1}."
            )
        self._labels, self._seen = dict(labels), {0}

    def check(self, mask: torch.Tensor, case: str) -> npt.NDArray[np.uint8 | np.uint16]:
        """The mask as a file holds it; raises an error for values that no label names."""
        values = torch.unique(mask).tolist()
        odd = [value for value in values if not (np.isfinite(value) and value == int(value))]
        if odd:
            raise FieldMismatchError(
                f"Masks must hold whole numbers, got {odd[0]} in case {case!r}. nnU-Net reads the number of a class. "
                "Give those: mask = (probability > 0.5).long(), or scores.argmax(0)."
            )
        unknown = [int(value) for value in values if int(value) not in self._labels.values()]
        if unknown:
            raise ConfigurationError(
                f"`labels` must name every value of the masks, got {self._labels}, without {unknown} of case {case!r}. "
                f"nnU-Net stops there. {self._remedy(unknown)}"
            )
        self._seen.update(map(int, values))
        return mask.to(torch.int64).numpy().astype(np.uint8 if len(self._labels) <= 256 else np.uint16)

    def _remedy(self, unknown: list[int]) -> str:
        if min(unknown) < 0 or max(unknown) >= 2 * (len(self._labels) + len(unknown)):
            return "Renumber the masks, for example a mask of 0 and 255: mask = (mask == 255).long()."
        more = {f"class_{value}": value for value in range(len(self._labels), max(unknown) + 1)}
        return f"Name them: labels={self._labels | more}."

    def warn_of_unseen(self) -> None:
        """Warns of labels that no mask holds."""
        unseen = [name for name, value in self._labels.items() if value not in self._seen]
        if unseen:
            warnings.warn(
                f"No mask holds the labels {unseen}: nnU-Net learns nothing of them. Check their numbers in `labels`, "
                "or leave them out.",
                stacklevel=3,
            )


def _write_case(
    root: Path,
    case: str,
    sample: Mapping[str, Any],
    channels: Sequence[str],
    affine: np.ndarray[Any, Any],
    classes: _Classes,
) -> None:
    import nibabel as nib

    if "image" not in sample or "mask" not in sample:
        raise FieldMismatchError(
            f"Samples must have 'image' and 'mask', got {sorted(sample)} in case {case!r}. nnU-Net trains on both."
        )
    image, mask = (torch.as_tensor(sample[name]).cpu() for name in ("image", "mask"))
    if len(image) != len(channels):
        raise FieldMismatchError(
            f"`channels` must name each of the {len(image)} channels of case {case!r}, got {list(channels)}."
        )
    if mask.shape not in (image.shape[1:], (1, *image.shape[1:])):
        raise FieldMismatchError(
            f"Masks must have the shape of their images, {(1, *image.shape[1:])} or without the first axis, got "
            f"{tuple(mask.shape)} in case {case!r}. nnU-Net reads one class number per voxel. Of one channel for each "
            "class, give mask.argmax(0)."
        )
    numbers = classes.check(mask.reshape(image.shape[1:]), case)
    if image.ndim == 3:  # 2D: nnU-Net reads a volume of one slice
        image, numbers = image[..., None], numbers[..., None]
    for number, channel in enumerate(image):
        values = channel.to(torch.float32).numpy()
        nib.save(nib.Nifti1Image(values, affine), root / "imagesTr" / f"{case}_{number:04d}{_FILE_ENDING}")
    nib.save(nib.Nifti1Image(numbers, affine), root / "labelsTr" / f"{case}{_FILE_ENDING}")
