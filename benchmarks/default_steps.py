"""Whether families get worse while they train: the distance at each tenth of their default number of steps.

A critic can drive a generator away from good samples long after it found them, which short trainings do not show. All
families with a critic train here as `fit` trains them where nothing is set, on images of 16 pixels a side. *Distance*
is the sliced Wasserstein distance to held-out images, over that of real training images; translators also have the PSNR
of held-out pairs. The averages of weights are judged, as always.

    python -m benchmarks.default_steps --out FOLDER           # goes on where it was interrupted
    python -m benchmarks.default_steps --out FOLDER --only munit-brain-t1-t2-source
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.harness import publish
from torchgenaug.recipes import FitOptions, Options, fit, load_data
from torchgenaug.recipes.options import Condition

_SIDE, _REPORTS = 16, 10


class Case(NamedTuple):
    """A family on data."""

    family: str
    data: str
    condition: Condition | None = None
    with_mask: bool = False

    @property
    def name(self) -> str:
        """Name of its folder and of its row."""
        return f"{self.family}-{self.data}-{self.condition or 'none'}"


_PAIRS = "brain-t1-t2"
CASES = (
    *(Case(family, "digits", "label") for family in ("stylegan2", "pggan", "introvae", "ddgan", "dcgan", "acgan")),
    Case("wgan-gp", "digits", "label"),
    Case("vae-gan", "digits"),
    *(Case(family, _PAIRS, "source") for family in ("munit", "unit", "cut", "cyclegan", "pix2pix", "ddgan")),
    Case("mm-gan", _PAIRS),
    Case("two-stage-vae", "brain", with_mask=True),
    *(Case(family, "brain", "mask") for family in ("spade", "pix2pix")),
    Case("inpaint", "nuclei", "mask"),
    Case("dcgan", "brain-3d"),
    Case("spade", "brain-3d", "mask"),
)


def measure_case(case: Case, out: Path, *, steps: int | None = None) -> dict[str, Any]:
    """Distances of one family, by the share of its steps that were done."""
    torch.set_num_threads(1)
    data = load_data(case.data, size=_SIDE)
    held_out = load_data(case.data, split="held_out", size=_SIDE)
    began = time.process_time()
    result = fit(
        case.family,
        data,
        out / case.name,
        held_out=held_out,
        recipe=Options(condition=case.condition, with_mask=case.with_mask, steps=steps),
        options=FitOptions(reports=_REPORTS if steps is None else 1),
        device="cpu",
        progress=False,
    )
    history = _history(out / case.name)
    return {
        "case": case.name,
        "steps": result.steps,
        "cpu_minutes": (time.process_time() - began) / 60,
        "distances": {int(row["step"]): row["distance"] / result.floor for row in history},
        "psnr_db": {int(row["step"]): row["psnr_db"] for row in history if "psnr_db" in row},
        "psnr_db_mean_image": result.pairs.get("psnr_db_mean_image"),
    }


def _history(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "training" / "losses.csv").read_text().splitlines()
    names = lines[0].split(",")
    return [
        {name: float(cell) for name, cell in zip(names, line.split(","), strict=True) if cell} for line in lines[1:]
    ]


def measure(*, quick: bool = False, out: Path | None = None, only: Collection[str] = ()) -> dict[str, Any]:
    """All cases, one after the other."""
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of copies, which count nowhere here
        wanted = [case for case in CASES if not only or case.name in only]
        rows = {}
        for case in [Case("vae-gan", "digits")] if quick else wanted:
            rows[case.name] = measure_case(case, out or Path(scratch), steps=2 if quick else None)
            print(rows[case.name], flush=True)
        return publish("default_steps", rows, quick=quick, only=" ".join(only) or None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help="these alone")
    arguments = parser.parse_args()
    measure(out=arguments.out, only=arguments.only)


if __name__ == "__main__":
    main()
