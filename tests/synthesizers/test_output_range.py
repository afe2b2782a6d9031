from __future__ import annotations

import pytest
import torch

from torchgenaug import ModuleSynthesizer, load_synthesizer, save_synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers import build_network


def generator():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_network("torchgenaug:DCGANGenerator", latent_dim=4, shape=[1, 8, 8], width=4)


@pytest.mark.parametrize("value_range", [(0, 1), (-1000, 2000), (-1, 1)])
def test_outputs_are_mapped_to_the_intensities(value_range, tmp_path):
    plain = ModuleSynthesizer(generator(), latent_shape=(4,), value_range=(-1, 1))
    mapped = ModuleSynthesizer(generator(), latent_shape=(4,), value_range=value_range, output_range=(-1, 1))
    low, high = value_range
    expected = (plain.synthesize([1, 2])["image"] + 1) / 2 * (high - low) + low
    torch.testing.assert_close(mapped.synthesize([1, 2])["image"], expected, rtol=1e-5, atol=1e-3)
    assert mapped.fields["image"].value_range == value_range
    assert mapped.fingerprint != plain.fingerprint
    save_synthesizer(mapped, tmp_path / "model")
    loaded = load_synthesizer(tmp_path / "model")
    assert loaded.fingerprint == mapped.fingerprint
    assert torch.equal(loaded.synthesize([3])["image"], mapped.synthesize([3])["image"])


def test_without_it_nothing_changes():
    first, second = (
        ModuleSynthesizer(generator(), latent_shape=(4,), value_range=(-1, 1), **options)
        for options in ({}, {"output_range": None})
    )
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("limits", [(1, 1), (1, 0), (0, float("nan")), (0,)])
def test_ranges_that_are_none(limits):
    with pytest.raises(ConfigurationError, match=r"`output_range` must"):
        ModuleSynthesizer(generator(), latent_shape=(4,), value_range=(0, 1), output_range=limits)
