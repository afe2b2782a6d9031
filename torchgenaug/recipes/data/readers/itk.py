"""MetaImage (.mha, .mhd), NRRD and GIPL through SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from torchgenaug.recipes.data.readers.decoded import Array, Decoded, fill_nan


def read_itk(path: Path) -> Decoded:
    """(channels, x, y, z) in RAS+ order, as NIfTI volumes are; pictures as (channels, height, width).

    Raises:
        ValueError: more than three spatial axes longer than 1, or complex numbers.
    """
    import SimpleITK

    with np.errstate(all="ignore"):
        image = SimpleITK.ReadImage(str(path))
    if "complex" in image.GetPixelIDTypeAsString():
        raise ValueError("a volume must be real, got complex numbers; save the magnitude")
    while image.GetDimension() > 3:
        sizes = image.GetSize()
        if sizes[-1] > 1:
            raise ValueError(f"a volume must have 3 axes, got {sizes}: a series; save one volume per file")
        image = image[(slice(None),) * (image.GetDimension() - 1) + (0,)]
    flat = image.GetDimension() == 3 and image.GetSize()[2] == 1
    if flat:
        image = image[:, :, 0]
    is_volume = image.GetDimension() == 3
    if is_volume:
        image = SimpleITK.DICOMOrient(image, "RAS")
    array: Array = SimpleITK.GetArrayFromImage(image)
    array = np.moveaxis(array, -1, 0) if array.ndim > image.GetDimension() else array[None]
    spacing = tuple(float(each) for each in image.GetSpacing())
    if is_volume:
        array = array.transpose(0, 3, 2, 1)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    values, notes = fill_nan(array)
    return Decoded(values, spacing if is_volume else spacing[::-1], notes, x_first=is_volume)
