"""Collects what the kit needs and an image with PyTorch lacks, as one archive to be unpacked on that machine."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# Whatever images with PyTorch have (numpy, h5py, accelerate, safetensors, xxhash, typer, rich, pytest and its plugins
# for time limits and parallel runs, scipy, scikit-learn, …) is not in it.
PACKAGES = (
    *("diffusers", "importlib_metadata"),
    *("monai", "torchio", "nibabel", "deprecated", "simpleitk"),
    *("pythae", "pydantic", "pydantic_core", "typing_inspection", "annotated_types"),
)
ARCHIVE = "site.tar.xz"
MOST_MIB = 60


def pack(folder: Path, packages: Sequence[str] = PACKAGES) -> str:
    """Writes ``folder/site.tar.xz``, and returns the command to type on the other machine.

    SimpleITK is 50 MiB as a wheel and 27 MiB in this archive: xz takes a minute of one core.

    Raises:
        RuntimeError: pip failed, or the archive is larger than 60 MiB.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / ARCHIVE
    constraints = Path(__file__).parents[2] / "constraints.txt"
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch) / "site"
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", str(site)]
        command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, "-c", str(constraints)]
        command += [part for platform in PLATFORMS for part in ("--platform", platform)]
        done = subprocess.run([*command, *packages], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"pip could not collect {', '.join(packages)}:\n{done.stderr}")
        with tarfile.open(archive, "w:xz", preset=6) as packed:
            for entry in sorted(site.iterdir()):
                packed.add(entry, entry.name)
    size_mib = archive.stat().st_size / 2**20
    if size_mib > MOST_MIB:
        raise RuntimeError(f"{archive} has {size_mib:.0f} MiB, more than {MOST_MIB}. Leave a package out.")
    return (
        f"{archive} has {size_mib:.1f} MiB. Carry it along as {folder.name}/{ARCHIVE}, and type:\n{typed(folder.name)}"
    )


def typed(folder: str) -> str:
    """The command to type in the root of the repository on the other machine."""
    return (
        f"mkdir -p /tmp/site && (tar -xJf {folder}/{ARCHIVE} -C /tmp/site || "
        f"python3 -m tarfile -e {folder}/{ARCHIVE} /tmp/site) && "
        'PYTHONPATH=/tmp/site python3 -m benchmarks.gpu --out "${OUT:-results}" --minutes 9'
    )
