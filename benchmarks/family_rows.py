"""Rows of the families table: which family is trained on what, and for how long."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple

from torchgenaug import EnsembleSynthesizer, TwoStageSynthesizer, load_synthesizer
from torchgenaug.contracts import Synthesizer
from torchgenaug.recipes import Options, TrainingData, load_data
from torchgenaug.recipes.data.training_data import Split
from torchgenaug.recipes.options import Condition


class Row(NamedTuple):
    """One row of the table: a family, and how many CPU minutes it is trained."""

    family: str
    data: str
    options: Options
    minutes: float = 5.0
    size: int | None = None
    picture: str = "families.png"
    reports: int = 2

    @property
    def name(self) -> str:
        """Name of its folder."""
        size = "" if self.size is None else f"-{self.size}"
        return f"{self.family}-{self.data.split(':')[-1]}-{self.options.condition or 'none'}{size}"

    def read(self, split: Split) -> TrainingData:
        """Its training data, or its held-out ones."""
        if ":" in self.data:
            module, name = self.data.split(":")
            data: TrainingData = getattr(importlib.import_module(module), name)(split, self.size)
            return data
        return load_data(self.data, split=split, size=self.size)


class Union(NamedTuple):
    """One row of the table: a synthesizer that joins trained ones."""

    family: str
    parts: tuple[str, str]
    data: str
    condition: Condition | None = None
    picture: str = "families.png"

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.family}-{self.data}"

    def join(self, folder: Path) -> Synthesizer:
        """The synthesizer, of the rows `parts` in `folder`."""
        one, other = (load_synthesizer(folder / part) for part in self.parts)
        if self.family == "two-stage":
            return TwoStageSynthesizer(one, other)
        return EnsembleSynthesizer(dict(zip(self.parts, (one, other), strict=True)))


_AUTOENCODERS = (
    *("vae", "hvae", "vae-iaf", "vae-linnf", "info-vae", "beta-vae", "disentangled-beta-vae", "beta-tcvae"),
    *("factor-vae", "iwae", "miwae", "piwae", "ciwae", "vamp", "msssim-vae", "svae", "poincare-vae", "wae", "aae"),
    *("rae-l2", "rae-gp", "ae"),
)

ROWS = (
    Row("cvae", "digits", Options(condition="label", batch_size=128)),
    Row("rhvae", "digits", Options(batch_size=32)),
    Row("vae-gan", "digits", Options(batch_size=32)),
    Row("vqvae", "digits", Options()),
    Row("dcgan", "digits", Options(condition="label")),
    Row("wgan-gp", "digits", Options(condition="label")),
    Row("acgan", "digits", Options(condition="label")),
    Row("ddpm", "digits", Options(condition="label", batch_size=32)),
    Row("ldm", "digits", Options(condition="label", batch_size=32)),
    Row("progressive", "digits", Options(condition="label", teacher="ddpm-digits-label", sampling_steps=4)),
    Row("pix2pix", "brain", Options(condition="mask")),
    Row("spade", "brain", Options(condition="mask")),
    Row("ddpm", "brain", Options(condition="mask")),
    Row("ddpm", "brain", Options(with_mask=True), 15),
    Row("pix2pix", "brain-t1-t2", Options(condition="source")),
    Row("cyclegan", "brain-t1-t2", Options(condition="source"), 10),
    Row("ddpm", "brain-t1-t2", Options(condition="source")),
    Row("ddpm", "nuclei", Options(with_mask=True)),
    Row("pix2pix", "nuclei", Options(condition="mask")),
    Row("pix2pix", "nuclei", Options(condition="source")),
    Row("vae", "brain-3d", Options(batch_size=8), 15),
    Row("dcgan", "brain-3d", Options(batch_size=8), 15),
    Row("ldm", "brain-3d", Options(batch_size=4), 30),
    Row("pix2pix", "brain-3d", Options(condition="mask", batch_size=2), 15),
    Row("spade", "brain-3d", Options(condition="mask", batch_size=2, width=8), 8),
    Row("slices", "brain-3d", Options(), 15),
    Row("vqvae2", "brain-3d", Options(batch_size=8), 15),
    *(Row(family, "digits", Options(batch_size=32), 1) for family in _AUTOENCODERS),
)
_LABEL, _SOURCE, _MASK = Options(condition="label"), Options(condition="source"), Options(condition="mask")
_EQUAL = 2.5
_PAIRS, _SIZES = "brain-t1-t2", "benchmarks.brain_sizes:brain_sizes"
EQUAL_ROWS = tuple(
    Row(*row, picture="equal_time.png", reports=1)
    for row in (
        ("mm-gan", _PAIRS, Options(), _EQUAL, 32),
        ("vqvae2", "digits", _LABEL, _EQUAL, 16),
        ("ddgan", "digits", _LABEL, _EQUAL, 16),
        ("stylegan2", "digits", _LABEL, _EQUAL, 16),
        ("pggan", "digits", _LABEL, _EQUAL, 16),
        ("introvae", "digits", _LABEL, _EQUAL, 16),
        ("inpaint", "nuclei", _MASK, _EQUAL, 16),
        ("munit", _PAIRS, _SOURCE, _EQUAL, 16),
        ("cut", _PAIRS, _SOURCE, _EQUAL, 16),
        ("countersynth", _SIZES, _LABEL, _EQUAL, 16),
        ("score-sde", "digits", Options(condition="label", sampling_steps=25), _EQUAL, 16),
        ("two-stage-vae", "brain", Options(with_mask=True), _EQUAL, 16),
        ("mm-ddpm", _PAIRS, Options(), _EQUAL, 16),
        ("inpaint-ddpm", "nuclei", _MASK, _EQUAL, 16),
        ("slices", "brain-3d", Options(), _EQUAL, 16),
        ("ddgan", _PAIRS, _SOURCE, _EQUAL, 16),
        ("unit", _PAIRS, _SOURCE, _EQUAL, 16),
        # those of the first table, at the same size and time
        ("dcgan", "digits", _LABEL, _EQUAL, 16),
        ("ddpm", "digits", _LABEL, _EQUAL, 16),
        ("vae", "digits", _LABEL, _EQUAL, 16),
        ("cyclegan", _PAIRS, _SOURCE, _EQUAL, 16),
        ("pix2pix", _PAIRS, _SOURCE, _EQUAL, 16),
        ("vqvae2", "brain-3d", Options(batch_size=8), _EQUAL, 16),
        ("ldm", "digits", _LABEL, _EQUAL, 16),
        ("acgan", "digits", _LABEL, _EQUAL, 16),
        ("spade", "brain-3d", Options(condition="mask", batch_size=2), _EQUAL, 16),
        ("dcgan", "brain-3d", Options(batch_size=8), _EQUAL, 16),
        ("ldm", "brain-3d", Options(batch_size=4), _EQUAL, 16),
        ("vae", "brain-3d", Options(batch_size=8), _EQUAL, 16),
        ("ddpm", _PAIRS, _SOURCE, _EQUAL, 16),
        ("spade", "brain", _MASK, _EQUAL, 16),
        ("pix2pix", "brain", _MASK, _EQUAL, 16),
        ("ddpm", "brain", _MASK, _EQUAL, 16),
        ("wgan-gp", "digits", _LABEL, _EQUAL, 16),
        ("vqvae", "digits", Options(), _EQUAL, 16),
        ("vae-gan", "digits", Options(batch_size=32), _EQUAL, 16),
        ("cvae", "digits", Options(condition="label", batch_size=128), _EQUAL, 16),
        ("rhvae", "digits", Options(batch_size=32), _EQUAL, 16),
        (
            "progressive",
            "digits",
            Options(condition="label", teacher="ddpm-digits-label-16", sampling_steps=4),
            _EQUAL,
            16,
        ),
        *((family, "digits", Options(batch_size=32), _EQUAL, 16) for family in ("hvae", "vae-iaf", "info-vae", "aae")),
        *((family, _PAIRS, _SOURCE, _EQUAL, 16) for family in ("regression", "look-up")),
    )
)
"""Families at equal time, on small images."""
UNIONS = (
    Union("ensemble", ("dcgan-digits-label", "ddpm-digits-label"), "digits", "label"),
    Union("two-stage", ("ddpm-nuclei-none", "pix2pix-nuclei-mask"), "nuclei"),
    Union("two-stage", ("ddpm-brain-none", "spade-brain-mask"), "brain"),
)
