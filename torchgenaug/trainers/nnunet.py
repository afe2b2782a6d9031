"""`write_nnunet`: a data set for nnU-Net, with synthetic cases in the training folds only.

The layout is that of nnU-Net v2 (https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md): ``imagesTr``
holds ``CASE_0000.nii.gz``, a file for each channel, ``labelsTr`` holds ``CASE.nii.gz``, and ``dataset.json`` names
channels and labels. ``splits_final.json`` belongs into the folder that nnU-Net preprocesses into.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
        labels: names of the classes and their numbers in the masks, with ``"background": 0``.
        channels: a name for each channel.
        affine: voxel to world in mm, (4, 4), of the synthetic cases, and of real ones that do not say; default: 1 mm.
        folds: number of folds.
        seed: decides which real case is in which fold, in [0, 2^63).

    Returns:
        The splits, as ``splits_final.json`` holds them: for each fold ``{"train": [...], "val": [...]}``.

    Raises:
        ConfigurationError: fewer real cases than folds; more synthetic cases than the source has.
        FieldMismatchError: the source or a sample lacks ``image`` or ``mask``; another number of channels.
    """
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
        _write_case(root, case, sample, channels, np.asarray(sample.get("affine", place), np.float64))
        real_cases.append(case)
    splits = _splits(real_cases, [f"synthetic_{number:05d}" for number in range(count)], folds, seed)
    for number in range(count):
        batch = synthetic.read(np.array([number]))
        sample = {name: batch[name][0] for name in ("image", "mask")}
        _write_case(root, f"synthetic_{number:05d}", sample, channels, place)
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


def _write_case(
    root: Path, case: str, sample: Mapping[str, Any], channels: Sequence[str], affine: np.ndarray[Any, Any]
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
    mask = mask.reshape(image.shape[1:])
    if image.ndim == 3:  # 2D: nnU-Net reads a volume of one slice
        image, mask = image[..., None], mask[..., None]
    for number, channel in enumerate(image):
        values = channel.to(torch.float32).numpy()
        nib.save(nib.Nifti1Image(values, affine), root / "imagesTr" / f"{case}_{number:04d}{_FILE_ENDING}")
    nib.save(nib.Nifti1Image(mask.to(torch.uint8).numpy(), affine), root / "labelsTr" / f"{case}{_FILE_ENDING}")
