"""Files of several named arrays besides NumPy's: HDF5 (.h5) and MATLAB (.mat, of version 7.3 and older)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from torchgenaug.recipes.data.readers.decoded import Array

HDF5, MATLAB = (".h5", ".hdf5", ".hdf", ".he5"), ".mat"
_SIGNATURE, _MATLAB_OFFSET = b"\x89HDF\r\n\x1a\n", 512  # MATLAB writes its own 512 bytes in front of HDF5


def is_container(path: Path) -> bool:
    """Whether a file is one of these by its ending."""
    return path.suffix.lower() in (*HDF5, MATLAB)


def container_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each array of numbers or texts, without reading it; in groups and structs it is named ``group/name``.

    Arrays of MATLAB have the axes that MATLAB shows, whichever version wrote them.
    """
    if not _is_hdf5(path):
        return {name: array.shape for name, array in _old_matlab(path).items()}
    import h5py

    shapes: dict[str, tuple[int, ...]] = {}

    def see(name: str, node: Any) -> None:
        # Virtual and external data sets lie in other files.
        is_array = isinstance(node, h5py.Dataset) and not node.is_virtual and not node.external
        if is_array and (node.dtype.kind in "buifS" or (h5py.check_string_dtype(node.dtype) and node.shape)):
            is_internal = name.startswith("#") or "MATLAB_empty" in node.attrs
            if not is_internal:
                shapes[name] = node.shape[::-1] if path.suffix.lower() == MATLAB else node.shape

    with h5py.File(path, "r") as file:
        file.visititems(see)
    return shapes


def load_from_container(path: Path, member: str, row: int | None = None, axis: int = 0) -> Array:
    """An array, or what lies at `row` of one of its axes, the first or the last (-1)."""
    if not _is_hdf5(path):
        array = _old_matlab(path)[member]
        return array if row is None else np.take(array, row, axis)
    import h5py

    is_reversed = path.suffix.lower() == MATLAB  # MATLAB counts the first axis fastest, and HDF5 the last
    with h5py.File(path, "r") as file:
        stored = file[member]
        if h5py.check_string_dtype(stored.dtype):
            texts = stored.asstr()[()] if row is None else stored.asstr()[row]
            return np.asarray(texts).astype(str)
        if row is None:
            found: Array = np.asarray(stored[()])
        else:
            found = np.asarray(stored[row] if (axis == 0) != is_reversed else stored[..., row])
    return np.ascontiguousarray(found.T) if is_reversed else found


def _is_hdf5(path: Path) -> bool:
    if path.suffix.lower() != MATLAB:
        return True
    with path.open("rb") as file:
        return file.read(_MATLAB_OFFSET + 8).startswith(_SIGNATURE, _MATLAB_OFFSET)


def _old_matlab(path: Path) -> dict[str, Array]:
    from scipy import io

    library: Any = io
    return dict(_numbers("", library.loadmat(str(path), struct_as_record=False, squeeze_me=False)))


def _numbers(prefix: str, values: Any) -> list[tuple[str, Array]]:
    """The arrays of numbers of a file and of its structs."""
    found = []
    for name, value in values.items():
        if name.startswith("__"):
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind in "buif":
            found.append((prefix + name, value))
        elif isinstance(value, np.ndarray) and value.size == 1 and hasattr(value.item(), "_fieldnames"):
            struct = value.item()
            found += _numbers(f"{prefix}{name}/", {field: getattr(struct, field) for field in struct._fieldnames})
    return found


__all__ = ["HDF5", "MATLAB", "container_shapes", "is_container", "load_from_container"]
