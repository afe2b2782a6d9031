"""Synthetic samples as files that other programs open: NIfTI, DICOM, PNG, Parquet and image folders.

``geometry`` (where voxels lie) · ``levels`` (intensities as whole numbers) · ``nifti``, ``dicom``, ``pictures`` and
``parquet`` (the writers) · ``table`` and ``card`` (what travels with the files) · ``run`` (`export_samples`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_HOMES = {"Geometry": "geometry", "export_samples": "run", "plan_export": "run"}

__all__ = ["Geometry", "export_samples", "plan_export"]

if TYPE_CHECKING:
    from torchgenaug.export.geometry import Geometry
    from torchgenaug.export.run import export_samples, plan_export


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
