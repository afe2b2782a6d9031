"""A second brain, for external tests: T1 and simulated T2 of Colin27, in the slices of `BrainContrasts`.

Read from Debian's package ``mricron-data`` (``apt install mricron-data``), nothing is downloaded. The package has no
tissue maps: fractions of CSF, grey and white matter are read off the real T1 image, linearly between three intensities
found by k-means. Both contrasts are then simulated as those of `torchgenaug.datasets.brain_contrasts`.

References:
    Holmes, Hoge, Collins, Woods, Toga, Evans (1998). Enhancement of MR images using registration for signal averaging.
    Journal of Computer Assisted Tomography 22, 324 (Colin27).
    Lloyd (1982). Least squares quantization in PCM. IEEE Transactions on Information Theory 28, 129 (k-means).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from torchgenaug.datasets.brain_contrasts import simulate
from torchgenaug.errors import missing_extra

DEBIAN_FOLDER = Path("/usr/share/mricron/templates")
_FILE = "ch2bet.nii.gz"  # without the skull
_FIRST_MM = (-96, -113, -37)  # of the window of `torchgenaug.datasets.brain`, in MNI space
_SHAPE, _EVERY_MM, _SEED = (192, 192, 100), 5, 27


def second_brain_there(folder: Path = DEBIAN_FOLDER) -> bool:
    """Whether the file is there."""
    return (folder / _FILE).is_file()


def second_brain(folder: Path = DEBIAN_FOLDER, *, lesions: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """T1-weighted and T2-weighted images (20, 1, 64, 64) in [0, 1], and masks int64, of slices 5 mm apart.

    Args:
        folder: of the file ``ch2bet.nii.gz``.
        lesions: see `BrainContrasts`.

    Raises:
        FileNotFoundError: it is not there.
        MissingExtraError: nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError as error:
        raise missing_extra("The second brain", package="nibabel", extra="demo") from error
    image = nibabel.load(folder / _FILE)
    voxels = np.asarray(image.dataobj, np.float32)
    maps = _fractions(_window(voxels, [round(-float(each)) for each in image.affine[:3, 3]]))
    tissues = nn.functional.avg_pool2d(torch.from_numpy(maps[..., ::_EVERY_MM]).permute(3, 0, 1, 2), 3)
    background = 1 - tissues.sum(1, keepdim=True)
    masks = torch.cat([background, tissues], 1).argmax(1, keepdim=True)
    return simulate(tissues, masks, _SEED, lesions=lesions)


def _window(voxels: npt.NDArray[np.float32], origin: list[int]) -> npt.NDArray[np.float32]:
    """The same millimetres as the slices of ICBM152; outside the image 0."""
    out = np.zeros(_SHAPE, np.float32)
    starts = [origin[axis] + _FIRST_MM[axis] for axis in range(3)]
    read = [
        slice(max(0, start), min(size, start + side))
        for start, size, side in zip(starts, voxels.shape, _SHAPE, strict=True)
    ]
    put = [slice(part.start - start, part.stop - start) for part, start in zip(read, starts, strict=True)]
    out[tuple(put)] = voxels[tuple(read)]
    return out


def _fractions(t1: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(3, *shape): CSF, grey and white matter; their sum is 1 in the brain and 0 outside."""
    inside = t1 > 0
    values = t1[inside]
    csf, grey, white = _centres(values)
    knots = np.array([csf, grey, white])
    parts = np.stack([np.interp(values, knots, np.eye(3)[k]) for k in range(3)])
    out = np.zeros((3, *t1.shape), np.float32)
    out[:, inside] = parts
    return out


def _centres(values: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Three intensities by k-means, from dark to bright."""
    centres = np.percentile(values, [5, 40, 85])
    for _ in range(30):
        nearest = np.abs(values[:, None] - centres).argmin(1)
        centres = np.array([values[nearest == k].mean() if (nearest == k).any() else centres[k] for k in range(3)])
    return float(centres[0]), float(centres[1]), float(centres[2])
