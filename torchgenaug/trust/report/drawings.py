"""Pictures of a report as PNGs in data URLs, so that the page is one file."""

from __future__ import annotations

import base64
import io
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from torchgenaug.errors import missing_extra
from torchgenaug.pictures import contact_sheet
from torchgenaug.trust.report.picture_data import FeatureMap, Pair, Pictures
from torchgenaug.trust.report.profiles import Profile
from torchgenaug.types import FieldSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REAL, _SYNTHETIC = "#0072b2", "#e69f00"  # Okabe, Ito: blue and orange, as in `pictures`


def draw_sheet(images: Sequence[Tensor], mark: str, pictures: Pictures) -> str:
    """A contact sheet of images, each framed and marked as ``"real"`` or ``"synthetic"``."""
    fields = {"image": FieldSpec(tuple(images[0].shape), value_range=pictures.value_range)}
    return _sheet([{"image": image} for image in images], fields, pictures, [mark] * len(images), 6)


def draw_image(image: Tensor, pictures: Pictures) -> str:
    """One image, unmarked."""
    fields = {"image": FieldSpec(tuple(image.shape), value_range=pictures.value_range)}
    return _sheet([{"image": image}], fields, pictures, None, 1)


def draw_pair(pair: Pair, pictures: Pictures) -> str:
    """A synthetic image at the left, the nearest training image at the right."""
    spec = FieldSpec(tuple(pair.synthetic.shape), value_range=pictures.value_range)
    row = {"synthetic": pair.synthetic, "nearest": pair.nearest}
    return _sheet([row], {"synthetic": spec, "nearest": spec}, pictures, None, 1)


def draw_profiles(profiles: tuple[Profile, Profile], value_range: tuple[float, float]) -> tuple[str, str]:
    """Intensity histograms and radial power spectra, real and synthetic."""
    histogram, spectrum = _figure(), _figure()
    axes = histogram.add_subplot()
    bins = np.linspace(*value_range, len(profiles[0].histogram) + 1)
    for profile, colour, name in zip(profiles, (_REAL, _SYNTHETIC), ("real", "synthetic"), strict=True):
        axes.stairs(np.array(profile.histogram), bins, color=colour, label=name, linewidth=1.6)
    axes.set(xlabel="intensity", ylabel="share of pixels", yscale="log")
    axes.legend(frameon=False)
    axes = spectrum.add_subplot()
    for profile, colour, name in zip(profiles, (_REAL, _SYNTHETIC), ("real", "synthetic"), strict=True):
        bands = len(profile.log_power)
        axes.plot((np.arange(bands) + 0.5) / (2 * bands), profile.log_power, color=colour, label=name, marker=".")
    axes.set(xlabel="spatial frequency (cycles per pixel)", ylabel="log10 power")
    axes.legend(frameon=False)
    return _figure_url(histogram), _figure_url(spectrum)


def draw_map(features: FeatureMap) -> str:
    """Real and synthetic images as points in the plane."""
    figure = _figure()
    axes = figure.add_subplot()
    for points, colour, name in ((features.real, _REAL, "real"), (features.synthetic, _SYNTHETIC, "synthetic")):
        axes.scatter(points[:, 0].numpy(), points[:, 1].numpy(), s=7, alpha=0.5, color=colour, label=name, linewidths=0)
    axes.set(xlabel="first principal component", ylabel="second")
    axes.legend(frameon=False)
    return _figure_url(figure)


def _figure() -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("The curves of report.html", package="matplotlib", extra="study") from error
    return Figure(figsize=(5, 3.4), dpi=110, layout="constrained")


def _figure_url(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return _url(buffer.getvalue())


def _sheet(
    rows: Sequence[dict[str, Tensor]],
    fields: dict[str, FieldSpec],
    pictures: Pictures,
    marks: Sequence[str] | None,
    columns: int,
) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sheet.png")
        turns = pictures.quarter_turns
        contact_sheet(rows, fields, path, marks=marks, columns=min(columns, math.ceil(len(rows))), rotate=turns)
        return _url(path.read_bytes())


def _url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
