"""A module of class scores is a synthesizer of masks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchgenaug import ModuleSynthesizer, load_synthesizer, save_synthesizer
from torchgenaug.errors import BadSampleError, ConfigurationError
from torchgenaug.synthesizers import build_network


def masks(**changes):
    torch.manual_seed(0)
    network = build_network("torchgenaug:LatentDecoder", latent_dim=4, shape=[3, 8, 8], width=4, value_range=None)
    return ModuleSynthesizer(network, **{"latent_shape": (4,), "makes": "mask", "value_range": (0, 2)} | changes)


def test_masks_are_made_saved_and_told_apart_from_images(tmp_path):
    made = masks()
    sample = made.synthesize([1, 2])
    assert list(sample) == ["mask"]
    assert sample["mask"].dtype == torch.int64
    assert sample["mask"].shape == (2, 1, 8, 8)
    assert made.fields["mask"].kind == "label_map"
    save_synthesizer(made, tmp_path / "masks")
    loaded = load_synthesizer(tmp_path / "masks")
    assert loaded.fingerprint == made.fingerprint != masks(makes="image", value_range=(-9, 9)).fingerprint
    assert torch.equal(loaded.synthesize([1, 2])["mask"], sample["mask"])


def test_what_cannot_be_a_mask():
    with pytest.raises(ConfigurationError, match=r"`value_range` must be \(0, 2\) for a module that returns 3 class"):
        masks(value_range=(0, 1))
    with pytest.raises(ConfigurationError, match="`makes` must be 'image' or 'mask', got 'masks'"):
        masks(makes="masks")


def test_scores_that_are_no_numbers_are_no_class():
    class Broken(nn.Module):
        def forward(self, latents):
            return torch.full((len(latents), 2, 8, 8), float("nan"))

    broken = ModuleSynthesizer(Broken(), latent_shape=(4,), makes="mask", value_range=(0, 1))
    with pytest.raises(BadSampleError):
        broken.synthesize([1])
