"""Copies under each change are found, innocent images are not, and p-values keep their promise."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional

from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError
from torchgenaug.trust import CopyDetector
from torchgenaug.trust.copies.calibration import benjamini_hochberg, conformal_p, mann_whitney_z


def blobs(count, seed, spatial=(32, 32)):
    """Smooth random images with a dark border, each of its own."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand((count, 1, *[max(4, side // 4) for side in spatial]), generator=draw)
    mode = "bicubic" if len(spatial) == 2 else "trilinear"
    inner = functional.interpolate(coarse, [side - 8 for side in spatial], mode=mode).clamp(0, 1)
    return functional.pad(inner, [4] * 2 * len(spatial))


def shifted(images):
    rolled = images
    for axis in range(2, images.ndim):
        rolled = rolled.roll(2, axis)
    return rolled


CHANGES = {
    "exact": lambda images: images,
    "noise": lambda images: images + 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(9)),
    "gain": lambda images: images * 1.7 - 0.2,
    "gamma": lambda images: images**1.3,
    "flip": lambda images: images.flip(2),
    "shift": shifted,
    "flip, shift and gain": lambda images: shifted(images.flip(3)) * 0.5,
}


@pytest.fixture(scope="module")
def flat():
    train, held_out = blobs(150, 1), blobs(150, 2)
    return train, held_out, CopyDetector(train, held_out)


@pytest.fixture(scope="module")
def solid():
    train, held_out = blobs(110, 1, (16, 20, 16)), blobs(300, 2, (16, 20, 16))
    return train, held_out, CopyDetector(train, held_out)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["flat", "solid"])
def test_copies_are_found(change, kind, request):
    train, _, detector = request.getfixturevalue(kind)
    report = detector(CHANGES[change](train[:30]))
    assert report.flagged.mean() >= 0.95
    assert (report.nearest == np.arange(30)).mean() >= 0.95


def cells(count, seed):
    """Tiles that are full to their border, soft discs of little contrast on grey; and the tiles moved by 3."""
    draw = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    field = torch.full((count, 40, 40), 0.2)
    for _ in range(4):
        at = torch.rand((count, 2, 1, 1), generator=draw) * 40
        radius = 3 + 3 * torch.rand((count, 1, 1), generator=draw)
        away = ((y - at[:, 0]) ** 2 + (x - at[:, 1]) ** 2).sqrt()
        field += 0.25 * torch.sigmoid(radius - away) * torch.rand((count, 1, 1), generator=draw)
    field = field[:, None] + 0.005 * torch.randn((count, 1, 40, 40), generator=draw)
    return field[..., 4:36, 4:36], field[..., 1:33, 1:33]


def test_moved_and_noisy_tiles_without_a_border_are_found():
    (train, moved), (held_out, _), (innocent, _) = (cells(150, seed) for seed in (1, 2, 3))
    detector = CopyDetector(train, held_out, false_alarm_rate=0.02)
    found = detector(moved[:100])
    assert found.flagged.mean() >= 0.95, "what a shift moves in is new, what it moves out is lost"
    assert (found.nearest == np.arange(100))[found.flagged].mean() >= 0.95
    turned = detector(moved[:100].rot90(1, (2, 3)))
    assert turned.flagged.mean() >= 0.95
    noise = 0.05 * torch.randn((100, 1, 32, 32), generator=torch.Generator().manual_seed(4))
    noisy = detector(train[:100] + noise)
    assert noisy.flagged.mean() >= 0.95
    assert detector(innocent).flagged.mean() <= 0.06
    assert detector(innocent[:100] + noise).flagged.mean() <= 0.06, "noise alone makes no copy"


def test_images_of_other_forms_can_be_registered():
    for spatial in ((20, 32), (1, 24), (3, 3), (2, 9, 5)):
        draw = torch.Generator().manual_seed(0)
        train, held_out = (torch.rand((120, 1, *spatial), generator=draw) for _ in range(2))
        report = CopyDetector(train, held_out)(train[:5])
        assert report.flagged.all(), spatial
        assert report.nearest.tolist() == [0, 1, 2, 3, 4]


def test_innocent_images_are_not_copies(flat):
    _, _, detector = flat
    report = detector(blobs(200, 13))
    assert report.flagged.sum() <= 6  # 2 expected
    assert report.expected_by_chance == pytest.approx(2)
    assert abs(report.z_score) < 4
    assert 0.3 < report.p_value.mean() < 0.7


@pytest.mark.parametrize("spatial", [(16, 16), (12, 12, 12)])
def test_false_alarms_keep_the_stated_rate(spatial):
    """Over ten pairs of sets: 1,200 innocent images, 5 % stated. One held-out set alone may give 1 % or 10 %."""
    flagged = []
    for k in range(10):
        train, held_out, innocent = (blobs(120, 100 * k + part, spatial) for part in (31, 32, 33))
        flagged.append(CopyDetector(train, held_out, false_alarm_rate=0.05)(innocent).flagged.mean())
    assert 0.02 < np.mean(flagged) < 0.08


def test_a_memorising_model_shows_in_the_whole_set(flat):
    train, _, detector = flat
    report = detector(train)
    assert report.z_score < -5
    assert report.copies.all()
    assert "150 of 150 images look like copies" in str(report)


def test_worst_pairs_and_json(flat, tmp_path):
    train, _, detector = flat
    images = blobs(20, 4)
    images[7] = train[93].flip(2)
    report = detector(images)
    worst = report.worst(3)[0]
    assert (worst.image, worst.nearest) == (7, 93)
    summary = report.to_json()
    assert summary["pairs"][0]["image"] == 7
    assert summary["calibrated_on"] == 150
    assert report.draw(images, train, tmp_path / "pairs.png", 4).stat().st_size > 500


def test_deterministic_and_picklable(flat):
    _, _, detector = flat
    images = blobs(10, 5)
    again = pickle.loads(pickle.dumps(detector))
    assert np.array_equal(detector(images).p_value, again(images).p_value)
    assert again.fingerprint == detector.fingerprint


def test_images_may_be_read_one_by_one(flat):
    train, _, detector = flat
    assert np.allclose(detector([*train[:5]]).statistic, detector(train[:5]).statistic, atol=1e-3)


def test_a_constant_image_is_no_copy(flat):
    _, _, detector = flat
    assert detector(torch.zeros(2, 1, 32, 32)).p_value.tolist() == [1.0, 1.0]


def test_images_are_compared_within_their_class():
    train, held_out = blobs(60, 1), blobs(240, 2)
    labels = torch.arange(60) % 2, torch.arange(240) % 2
    detector = CopyDetector(train, held_out, labels=labels)
    report = detector(train[:20], labels[0][:20])
    assert report.flagged.all()
    other = detector(train[:20], 1 - labels[0][:20])
    assert (other.nearest % 2 != np.arange(20) % 2).all()
    assert other.flagged.mean() < 0.3
    assert (detector(train[:4], [7] * 4).p_value == 1).all()
    with pytest.raises(ConfigurationError, match="to the detector and to its call"):
        detector(train[:2])


def test_images_of_a_patient_are_not_compared_with_each_other():
    """Slices of one patient resemble each other; taken as strangers, they would hide what is usual."""
    train, held_out = blobs(100, 1), blobs(120, 2)
    twice = torch.cat([held_out, held_out + 0.01 * blobs(120, 6)])
    names = [f"patient {k % 120}" for k in range(240)]
    detector = CopyDetector(train, twice, patients=names)
    assert detector.num_calibration == 120
    assert detector.can_judge
    assert detector(train[:20]).flagged.all()
    assert detector(blobs(200, 3)).flagged.mean() < 0.04
    # As strangers, ordinary images look suspicious beside such close ones.
    strangers = CopyDetector(train, twice)
    assert strangers(blobs(200, 3)).flagged.mean() > 0.2


def test_conditions_explain_likeness():
    """A model that is conditioned on a sample's outline makes images like that sample: no copies, once calibrated."""
    train, held_out = blobs(150, 1), blobs(150, 2)
    made = 0.7 * train + 0.3 * blobs(150, 7)
    innocent = 0.7 * held_out + 0.3 * blobs(150, 8)
    assert CopyDetector(train, held_out)(made).flagged.mean() > 0.5
    detector = CopyDetector(train, held_out, held_out_synthetic=innocent)
    assert detector(made).flagged.mean() < 0.06
    assert detector(train[:30]).flagged.all()


def test_too_few_held_out_images_cannot_judge():
    detector = CopyDetector(blobs(30, 1), blobs(30, 2))
    assert not detector.can_judge
    report = detector(blobs(30, 1))
    assert not report.flagged.any()
    assert report.to_json()["found"] is None
    assert str(report) == ("Cannot judge: 30 held-out images or patients, 99 are needed for 1.0% false alarms.")
    assert CopyDetector(blobs(30, 1), blobs(30, 2), false_alarm_rate=0.05)(blobs(30, 1)).flagged.all()


def test_bad_arguments():
    images = blobs(10, 1)
    with pytest.raises(EmptyDatasetError, match="`real_train` must hold at least one image"):
        CopyDetector(images[:0], images)
    with pytest.raises(ConfigurationError, match="at least 3 images"):
        CopyDetector(images, images[:2])
    with pytest.raises(FieldMismatchError, match="images of one shape"):
        CopyDetector(images, torch.rand(5, 1, 16, 16))
    with pytest.raises(ConfigurationError, match="Resize them"):
        CopyDetector(images, images)(torch.rand(5, 1, 16, 16))
    with pytest.raises(FieldMismatchError, match="index 3"):
        CopyDetector(images.index_fill(0, torch.tensor(3), torch.nan), images)
    with pytest.raises(FieldMismatchError, match="Add the axis of channels"):
        CopyDetector(torch.rand(5, 16, 16)[:, 0], images)
    with pytest.raises(ConfigurationError, match="false_alarm_rate"):
        CopyDetector(images, images, false_alarm_rate=1)
    with pytest.raises(ConfigurationError, match="one name for each"):
        CopyDetector(images, images, patients=["a"])
    with pytest.raises(ConfigurationError, match="one integer for each"):
        CopyDetector(images, images, labels=([1], [1]))


def test_conformal_p_values_are_valid():
    """P(p ≤ a) ≤ a, by simulation; with patients of several images, too."""
    rng = np.random.default_rng(0)
    p = np.array([conformal_p(rng.random(1), rng.random(99), np.ones(99))[0] for _ in range(2000)])
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() < level + 3 * np.sqrt(level / 2000)
    assert conformal_p(np.array([2.0, -1.0]), rng.random(99), np.ones(99)).tolist() == [0.01, 1.0]
    weight = np.repeat([1.0, 0.25], [3, 4])  # three patients with one image, one with four
    assert conformal_p(np.array([0.5]), np.array([0, 0, 0, 1, 0, 0, 0.0]), weight)[0] == pytest.approx(1.25 / 5)


def test_benjamini_hochberg_by_hand():
    p = np.array([0.01, 0.9, 0.02, 0.04, 0.6])
    assert benjamini_hochberg(p, 0.05).tolist() == [True, False, True, False, False]
    assert not benjamini_hochberg(np.array([0.5]), 0.05).any()


def test_mann_whitney_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 20, 40).astype(float), rng.integers(3, 25, 60).astype(float)
    expected = stats.mannwhitneyu(a, b, use_continuity=False, method="asymptotic", alternative="less").pvalue
    assert stats.norm.cdf(mann_whitney_z(a, b)) == pytest.approx(expected)
    assert mann_whitney_z(np.ones(3), np.ones(4)) == 0.0
