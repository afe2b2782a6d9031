from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError, FieldMismatchError, MissingExtraError
from torchgenaug.metrics import EfficientNetFeatures, SliceFeatures


def test_features_and_probabilities_of_one_network():
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    features = EfficientNetFeatures(side=64)
    with torch.inference_mode():
        found = features(images)
        probabilities = EfficientNetFeatures(side=64, output="probabilities")(images.expand(-1, 3, -1, -1))
    assert found.shape == (2, 1280)
    assert probabilities.shape == (2, 1000)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))
    assert (found.std(0) > 0).any()
    assert features.name == "efficientnet-lite0"
    assert features.sha256 != EfficientNetFeatures(side=32).sha256


def test_volumes_by_slices():
    with torch.inference_mode():
        assert SliceFeatures(EfficientNetFeatures(side=32), slices=1)(torch.rand(1, 1, 9, 9, 9)).shape == (1, 1280)


def test_what_it_cannot_take():
    with pytest.raises(FieldMismatchError, match="SliceFeatures"):
        EfficientNetFeatures()(torch.zeros(1, 1, 8, 8, 8))
    with pytest.raises(ConfigurationError, match="at least 32"):
        EfficientNetFeatures(side=8)
    with pytest.raises(ConfigurationError, match="'features' or 'probabilities'"):
        EfficientNetFeatures(output="logits")


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"torchgenaug\[metrics\]"):
        EfficientNetFeatures()
