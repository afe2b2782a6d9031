"""Translators without a critic: a table learns a map of intensities, and both are saved, loaded and deterministic."""

from __future__ import annotations

import pytest
import torch

from torchgenaug import load_synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.intensity_table import IntensityTable
from torchgenaug.recipes.data.training_data import TensorSamples, TrainingData
from torchgenaug.recipes.fit import fit
from torchgenaug.recipes.options import FitOptions, Options
from torchgenaug.types import FieldSpec


def pairs(channels=1):
    sources = torch.rand(6, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    return TrainingData(
        TensorSamples({"image": 10 * (1 - sources[:, :1]), "source": sources}),
        {
            "image": FieldSpec((1, 16, 16), value_range=(0.0, 10.0)),
            "source": FieldSpec((channels, 16, 16), value_range=(0.0, 1.0)),
        },
        tuple(f"pair {k}" for k in range(6)),
        "pairs",
    )


@pytest.mark.parametrize("family", ["regression", "look-up"])
def test_it_learns_an_inversion_in_the_units_of_the_data(tmp_path, family):
    steps = 40 if family == "regression" else 120
    data = pairs()
    fitted = fit(
        family,
        data,
        tmp_path,
        recipe=Options(condition="source", steps=steps, width=4),
        options=FitOptions(reports=1, augment=False),
        device="cpu",
        progress=False,
    )
    sources, wanted = data.samples.columns["source"], data.samples.columns["image"]
    made = fitted.synthesizer.synthesize(range(6), {"source": sources})["image"]
    errors = (made - wanted).abs().mean(), (wanted.mean() - wanted).abs().mean()
    assert errors[0] < 0.7 * errors[1]
    again = load_synthesizer(tmp_path).synthesize(range(6, 12), {"source": sources})["image"]
    assert torch.equal(made, again), "a mean has no seed"


def test_a_table_needs_sources_of_the_same_shape(tmp_path):
    with pytest.raises(ConfigurationError, match="look-up must have sources of the same shape"):
        fit("look-up", pairs(2), tmp_path, recipe=Options(condition="source", steps=1), progress=False)


def test_a_fresh_table_is_the_identity_between_its_ranges():
    table = IntensityTable(channels=2, value_range=(0, 4), source_range=(-1, 1))
    sources = torch.rand(3, 2, 4, 5, 6) * 2 - 1
    assert torch.allclose(table(sources), 2 * (sources + 1), atol=1e-5)
