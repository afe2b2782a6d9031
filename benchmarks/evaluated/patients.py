"""Simulated patients: axial slices of one brain (ICBM152, T1), each deformed by a draw of its own."""

from __future__ import annotations

import functools
from typing import Any

import torch

from torchgenaug.datasets.brain import draw_deformation, level_of, load_volumes, to_slice
from torchgenaug.datasets.deform import deformed
from torchgenaug.seeding import derive, permutation

PATIENTS = {"train": 600, "held_out": 300, "unseen": 300}


@functools.lru_cache(maxsize=3)
def patients(split: str) -> list[dict[str, Any]]:
    """One slice of every patient of a split: image and mask (1, 64, 64), label 0 to 3 (level), patient."""
    volumes, deform = torch.from_numpy(load_volumes()), draw_deformation()
    first = sum(PATIENTS[each] for each in list(PATIENTS)[: list(PATIENTS).index(split)])
    found = []
    for patient in range(first, first + PATIENTS[split]):
        row = int(permutation(0, volumes.shape[-1])[patient % volumes.shape[-1]])
        moved = deformed(volumes[..., row, None], deform, int(derive(7, patient)), spacing_mm=1.0, cell=12)[..., 0]
        image, mask = to_slice(moved)
        found.append({"image": image, "mask": mask, "label": level_of(row), "patient": f"patient {patient:04d}"})
    return found


def train() -> list[dict[str, Any]]:
    """Training patients."""
    return patients("train")


def ten() -> list[dict[str, Any]]:
    """Ten of them, images alone: what the memorising model is trained on."""
    return [{"image": each["image"], "patient": each["patient"]} for each in patients("train")[:10]]


def held_out() -> list[dict[str, Any]]:
    """Patients that no model has seen."""
    return patients("held_out")


def unseen() -> list[dict[str, Any]]:
    """Others that no model has seen: their masks are what the good model is conditioned on."""
    return patients("unseen")
