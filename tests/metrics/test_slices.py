from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.metrics import RadiomicsFeatures, SliceFeatures


def test_mean_over_the_stated_slices():
    volumes = torch.rand(2, 1, 9, 10, 11, generator=torch.Generator().manual_seed(0))
    plain = RadiomicsFeatures()
    found = SliceFeatures(plain, axes=(0, 2), slices=2)(volumes)
    planes = [volumes[:, :, 2], volumes[:, :, 6], volumes[..., 2], volumes[..., 8]]
    torch.testing.assert_close(found, torch.stack([plain(plane) for plane in planes]).mean(0))


def test_name_and_fingerprint_say_which():
    features = SliceFeatures(RadiomicsFeatures(), axes=(2,), slices=1)
    assert features.name == "radiomics-like, 1 slices of axes 2"
    assert features.sha256 != SliceFeatures(RadiomicsFeatures(), axes=(1,), slices=1).sha256
    assert features.standardize


@pytest.mark.parametrize("settings", [{"axes": ()}, {"axes": (0, 0)}, {"axes": (3,)}, {"slices": 0}])
def test_bad_settings(settings):
    with pytest.raises(ConfigurationError, match=r"`(axes|slices)` must be"):
        SliceFeatures(RadiomicsFeatures(), **settings)


def test_images_are_refused():
    with pytest.raises(FieldMismatchError, match="must be volumes"):
        SliceFeatures(RadiomicsFeatures())(torch.zeros(1, 1, 9, 9))
