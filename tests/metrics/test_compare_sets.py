from __future__ import annotations

import math

import pytest
import torch

from torchgenaug.errors import ConfigurationError, SmallSampleWarning, TooFewImagesError
from torchgenaug.metrics import FID, KID, PRECISION, RECALL, FeatureSets, RadiomicsFeatures, SetMeasure, compare_sets


def gaussian(count: int, width: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def sets_of(real: torch.Tensor, synthetic: torch.Tensor) -> FeatureSets:
    return FeatureSets(real, synthetic, "test")


DIFFERENCE = SetMeasure(
    "difference of means",
    lambda real, synthetic: float(synthetic.mean() - real.mean()),
    "lower",
    (-math.inf, math.inf),
    "none",
)


@pytest.mark.parametrize("largest_n", [None, 15])
def test_intervals_hold_what_they_promise(largest_n):
    """Of 95 % intervals of a difference of means, about 95 % hold the true one: 0.5."""
    measure = SetMeasure("difference", DIFFERENCE.function, "lower", (-9, 9), "none", largest_n=largest_n)
    hits = 0
    for trial in range(200):
        sets = sets_of(gaussian(60, 1, 2 * trial), gaussian(60, 1, 2 * trial + 1) + 0.5)
        result = compare_sets(sets, [measure], seed=trial)["difference[test]"]
        hits += result.low <= 0.5 <= result.high
    assert 182 <= hits <= 199


def test_floor_and_value_have_the_same_number_of_images():
    """A biased measure of equal distributions: value and floor agree, though both are far from 0."""
    result = compare_sets(sets_of(gaussian(120, 50), gaussian(120, 50, 1)), [FID])["FID[test]"]
    assert result.n == 60
    assert result.floor > 5
    assert result.value == pytest.approx(result.floor, rel=0.1)


def test_unequal_sets_are_compared_at_the_smaller_size():
    assert compare_sets(sets_of(gaussian(500), gaussian(41, seed=1)), [KID])["KID[test]"].n == 20


def test_the_same_seed_gives_the_same_numbers_and_moves_no_global_state():
    sets = sets_of(gaussian(120), gaussian(120, seed=1))
    before = torch.random.get_rng_state()
    first, again, other = (compare_sets(sets, [KID, PRECISION, RECALL], seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(before, torch.random.get_rng_state())


def test_measures_of_one_computation_share_it():
    calls = []

    def counted(real, synthetic):
        calls.append(1)
        return PRECISION.function(real, synthetic)

    shared = [
        SetMeasure(name, counted, "higher", (0, 1), "none", output=name, minimum=6) for name in ("precision", "recall")
    ]
    results = compare_sets(sets_of(gaussian(60), gaussian(60, seed=1)), shared, splits=3)
    assert len(calls) == 6
    assert list(results) == ["precision[test]", "recall[test]"]


def test_a_small_set_is_loud():
    with pytest.warns(SmallSampleWarning, match="10 images for 30 features"):
        result = compare_sets(sets_of(gaussian(20, 30), gaussian(20, 30, 1)), [FID])["FID[test]"]
    assert len(result.cautions) == 1
    assert result.to_json()["cautions"] == list(result.cautions)


def test_a_too_small_set_is_refused():
    with pytest.raises(TooFewImagesError, match="precision compares halves of at least 6 images"):
        compare_sets(sets_of(gaussian(11), gaussian(100)), [PRECISION])


def test_bad_arguments():
    with pytest.raises(ConfigurationError, match="`splits` must be at least 2"):
        compare_sets(sets_of(gaussian(9), gaussian(9)), [KID], splits=1)
    with pytest.raises(ConfigurationError, match="differ in name"):
        compare_sets(sets_of(gaussian(9), gaussian(9)), [KID, KID])


@pytest.mark.filterwarnings("ignore::torchgenaug.errors.SmallSampleWarning")
def test_blurred_images_are_at_the_ceiling_and_good_ones_at_the_floor():
    from torchgenaug.metrics.sets.degrade import blur

    def textured(seed):
        noise = torch.rand(60, 1, 24, 24, generator=torch.Generator().manual_seed(seed))
        return blur(noise, 0.7)

    real, good, blurred = textured(0), textured(1), blur(textured(2), 1.0)
    measures = [FID, PRECISION, RECALL]
    features = RadiomicsFeatures()
    results = [compare_sets(FeatureSets.extract(features, real, each), measures) for each in (good, blurred)]
    for name in ("FID[radiomics-like]", "precision[radiomics-like]"):
        at_floor, at_ceiling = (each[name] for each in results)
        span = abs(at_floor.ceiling - at_floor.floor)
        assert abs(at_floor.value - at_floor.floor) < 0.2 * span
        assert abs(at_ceiling.value - at_ceiling.ceiling) < 0.2 * span


def test_no_patient_is_in_both_real_halves():
    """The floor of near-identical slices of a patient would be 0 if they were spread over both halves."""
    patients = torch.randint(12, (90,), generator=torch.Generator().manual_seed(0))
    seen = []

    def overlap(real, other):
        seen.append(set(real[:, 0].tolist()) & set(other[:, 0].tolist()))
        return float(len(seen[-1]))

    real = patients[:, None].float()
    sets = FeatureSets(real, torch.full((90, 1), -1.0), "test", real_groups=patients)
    result = compare_sets(sets, [SetMeasure("overlap", overlap, "lower", (0, 99), "none")])["overlap[test]"]
    assert result.floor == 0
    assert 30 < result.n < 45
    spread = compare_sets(
        FeatureSets(real, sets.synthetic, "test"), [SetMeasure("o", overlap, "lower", (0, 99), "none")]
    )
    assert spread["o[test]"].floor > 5
    with pytest.raises(ConfigurationError, match="one value per real image"):
        FeatureSets(real, real, "test", real_groups=patients[:5])


@pytest.mark.filterwarnings("ignore::torchgenaug.errors.SmallSampleWarning")
def test_every_standard_measure_gives_a_number_and_prefers_the_real_distribution():
    from torchgenaug.metrics import ENERGY_DISTANCE, FEATURE_KLD, FEATURE_MEASURES, FID_INFINITY

    good = sets_of(gaussian(60), gaussian(60, seed=1))
    bad = sets_of(gaussian(60), 0.01 * gaussian(60, seed=1) + 3)
    measures = [*FEATURE_MEASURES, FEATURE_KLD, ENERGY_DISTANCE, FID_INFINITY]
    for measure in measures:
        near, far = (compare_sets(each, [measure], splits=4)[f"{measure.name}[test]"] for each in (good, bad))
        assert all(map(math.isfinite, (near.value, near.low, near.high, near.floor)))
        assert near.bounds[0] <= near.low <= near.value <= near.high <= near.bounds[1]
        assert near.value != far.value
        assert (near.value > far.value) == (measure.better == "higher"), measure.name


@pytest.mark.parametrize("ceiling", ["blur", "noise"])
def test_the_ceiling_of_volumes_is_the_same_in_any_batch_and_shares_no_patient(ceiling):
    volumes = torch.rand(24, 1, 8, 9, 10, generator=torch.Generator().manual_seed(0))
    patients = [f"patient {number // 3}" for number in range(24)]
    extracted = [
        FeatureSets.extract(
            RadiomicsFeatures(), volumes, volumes.flip(2), ceiling=ceiling, real_groups=patients, batch_size=size
        )
        for size in (5, 64)
    ]
    torch.testing.assert_close(extracted[0].degraded, extracted[1].degraded, rtol=1e-3, atol=1e-3)
    sets = extracted[0]
    seen = []

    def recorded(real, synthetic):
        seen.append(real)
        return 0.0

    compare_sets(sets, [SetMeasure("recorded", recorded, "lower", (0, 1), "none")])
    rows = [int((sets.real == vector).all(1).nonzero()[0]) for vector in seen[-1]]
    assert len(rows) == len(sets.degraded) == 11
    assert not {patients[row] for row in rows} & {patients[row] for row in sets.degraded_rows.tolist()}
    with pytest.raises(ConfigurationError, match="one value per real image, 24, got 2"):
        FeatureSets.extract(RadiomicsFeatures(), volumes, volumes, real_groups=patients[:2])


def test_one_image_and_one_patient_are_refused_with_the_reason():
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(TooFewImagesError, match="spread over the real images, got 1"):
        FeatureSets.extract(RadiomicsFeatures(), images[:1], images)
    sets = FeatureSets.extract(RadiomicsFeatures(), images, images, real_groups=["only"] * 20)
    assert sets.degraded is None
    with pytest.raises(TooFewImagesError, match="beyond the 20 of the largest group"):
        compare_sets(sets, [KID])


@pytest.mark.parametrize(
    "convert", [lambda x: x.double(), lambda x: x.long(), lambda x: x.byte(), lambda x: x.requires_grad_()]
)
def test_features_of_another_type_are_numbers_too(convert):
    real, synthetic = ((torch.rand(20, 3) * 99).floor() for _ in range(2))
    expected = compare_sets(FeatureSets(real, synthetic, "x"), [FID])["FID[x]"].value
    found = compare_sets(FeatureSets(real, convert(synthetic.clone()), "x"), [FID])["FID[x]"].value
    assert found == pytest.approx(expected, rel=1e-4)


def test_sets_without_a_feature_are_refused():
    with pytest.raises(ConfigurationError, match="must be"):
        FeatureSets(torch.rand(5, 0), torch.rand(5, 0), "x")
