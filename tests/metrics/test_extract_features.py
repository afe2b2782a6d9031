from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError, IntensityMismatchWarning
from torchgenaug.metrics import FeatureSets, RadiomicsFeatures, extract_features
from torchgenaug.metrics.features.radiomics import FEATURE_NAMES


class Means:
    name, sha256, standardize = "means", "0", False

    def __call__(self, images):
        return images.flatten(1).mean(1, keepdim=True)


class Lazy:
    """Images that are read one at a time."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return torch.full((1, 4, 4), float(index))


def test_batches_cover_everything_in_order_and_in_the_unit_range():
    found = extract_features(Means(), Lazy(), value_range=(0, 4), batch_size=2)
    assert found.flatten().tolist() == [0, 0.25, 0.5, 0.75, 1.0]
    assert not found.requires_grad
    assert not found.is_inference()


@pytest.mark.parametrize(
    ("images", "value_range", "error", "words"),
    [
        (torch.zeros(0, 1, 8, 8), (0, 1), EmptyDatasetError, "at least one image"),
        (torch.full((3, 1, 8, 8), -1000.0), (0, 1), ConfigurationError, r"images in \[-1000, -1000\]"),
        (torch.full((3, 1, 8, 8), torch.nan), (0, 1), ConfigurationError, "must be finite"),
        (torch.zeros(3, 1, 8, 8), (1, 0), ConfigurationError, "low < high"),
        ([torch.zeros(1, 8, 8), torch.zeros(1, 8, 9)], (0, 1), FieldMismatchError, "at index 1"),
        (torch.zeros(3, 8, 8), (0, 1), FieldMismatchError, "2 or 3 spatial axes"),
    ],
)
def test_bad_images_are_refused(images, value_range, error, words):
    with pytest.raises(error, match=words):
        extract_features(Means(), images, value_range=value_range)


def test_the_range_that_the_message_names_works():
    images = torch.linspace(-1000, 3000, 3 * 64).view(3, 1, 8, 8)
    with pytest.raises(ConfigurationError, match=r"value_range=\(-1000, 3000\)"):
        extract_features(Means(), images)
    assert extract_features(Means(), images, value_range=(-1000, 3000)).isfinite().all()


def test_features_that_are_no_numbers_are_refused_with_their_place():
    class Broken(Means):
        def __call__(self, images):
            return super().__call__(images).masked_fill(images[:, 0, :1, 0] == 0.75, torch.nan)

    with pytest.raises(FieldMismatchError, match="not finite for 1 of 2 images, the first at index 3"):
        extract_features(Broken(), Lazy(), value_range=(0, 4), batch_size=2)


def test_features_of_another_shape_are_refused():
    class Maps(Means):
        def __call__(self, images):
            return images

    with pytest.raises(FieldMismatchError, match="must return"):
        extract_features(Maps(), Lazy(), value_range=(0, 4))


@pytest.mark.parametrize("shape", [(3, 1, 9, 8), (3, 2, 8, 8), (3, 1, 8, 8, 8)])
def test_sets_of_other_shapes_are_refused(shape):
    with pytest.raises(FieldMismatchError, match=r"real shape \(1, 8, 8\)"):
        FeatureSets.extract(Means(), torch.zeros(3, 1, 8, 8), torch.zeros(shape))


def test_standardised_by_the_real_spread():
    real, synthetic = (torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    sets = FeatureSets.extract(RadiomicsFeatures(), real, synthetic)
    torch.testing.assert_close(sets.real.mean(0), torch.zeros(31), atol=1e-4, rtol=0)
    spreads = sets.real.std(0)
    assert spreads.max() == pytest.approx(1, abs=1e-4)
    assert (spreads > 0.99).sum() > 15
    assert len(sets.degraded) == len(sets.degraded_rows) == 10
    assert FeatureSets.extract(RadiomicsFeatures(), real, synthetic, ceiling=None).degraded is None


def test_a_difference_where_real_images_never_differ_counts():
    """The real background is black in every image, so its 10th percentile has no spread; a grey one must be seen."""
    real = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    real[:, :, :4] = 0
    grey = real.clamp(min=0.3)
    sets = FeatureSets.extract(RadiomicsFeatures(), real, grey)
    column = FEATURE_NAMES.index("percentile 10")
    assert sets.real[:, column].abs().max() == 0
    assert sets.synthetic[:, column].min() > 5
    assert sets.synthetic.isfinite().all()


def test_a_range_that_is_much_too_wide_is_loud():
    """Images in [0, 1] with the range of 8 bit: everything would be in the first grey level."""
    with pytest.warns(IntensityMismatchWarning, match=r"0\.3.% of `value_range` \(0, 255\)"):
        extract_features(Means(), torch.rand(3, 1, 8, 8), value_range=(0, 255))


def test_vectors_that_are_no_numbers_are_refused():
    with pytest.raises(ConfigurationError, match="must be finite"):
        FeatureSets(torch.zeros(3, 2), torch.tensor([[0.0, torch.nan]]), "test")
    with pytest.raises(ConfigurationError, match="as many features"):
        FeatureSets(torch.zeros(3, 2), torch.zeros(3, 1), "test")


@pytest.mark.parametrize("limits", [(0, 1, 2), 3, "ab", (0, "x"), (1, 0), (0, torch.nan)])
def test_a_range_that_is_none_is_refused(limits):
    with pytest.raises(ConfigurationError, match="low < high"):
        extract_features(RadiomicsFeatures(), torch.rand(2, 1, 16, 16), value_range=limits)
