"""Brightness within masks, copies within classes and conditions, and the trilemma of `evaluate`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug import SyntheticSequence
from torchgenaug.metrics.measurement import Measurement
from torchgenaug.sources.in_memory import InMemorySource
from torchgenaug.testing import AnalyticSynthesizer
from torchgenaug.trust import evaluate
from torchgenaug.trust.report.copying import find_copying
from torchgenaug.trust.report.evaluate import trilemma
from torchgenaug.trust.report.image_set import ImageSet
from torchgenaug.trust.report.label_intensity import label_intensities


class Scans:
    """Images whose class 1 is a disc: 0.6 bright on average, noise elsewhere."""

    def __init__(self, count, brightness=0.6, seed=0, side=16):
        draw = np.random.default_rng(seed)
        grid = np.arange(side)
        self.samples = []
        for _ in range(count):
            place = draw.uniform(5, side - 5, 2)
            disc = (grid[:, None] - place[0]) ** 2 + (grid - place[1]) ** 2 < draw.uniform(8, 14)
            image = 0.2 + 0.05 * draw.standard_normal((side, side)) + disc * (brightness - 0.2 + draw.normal(0, 0.02))
            mask = torch.tensor(disc[None].astype(np.int64))
            self.samples.append({"image": torch.tensor(image[None], dtype=torch.float32), "mask": mask})

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


ROWS = range(60)


def test_the_same_brightness_is_inside():
    found = label_intensities(Scans(60), ROWS, Scans(60, seed=1), ROWS)
    assert [each.label for each in found] == [0, 1]
    assert all(each.outside <= 0.15 for each in found)
    assert found[1].real[1] == pytest.approx(0.6, abs=0.02)


def test_another_brightness_of_one_class_is_named():
    found = label_intensities(Scans(60), ROWS, Scans(60, 0.9, seed=1), ROWS)
    assert found[0].outside <= 0.15
    assert found[1].outside == 1.0
    assert found[1].synthetic[1] == pytest.approx(0.9, abs=0.02)


def test_sets_without_masks_have_none():
    assert label_intensities(Scans(60), ROWS, torch.rand(60, 1, 16, 16), ROWS) == ()
    assert label_intensities(Scans(60), ROWS, [{"image": torch.rand(1, 16, 16)}] * 60, ROWS) == ()
    assert label_intensities(Scans(5), range(5), Scans(5), range(5)) == ()  # too few to know what is usual


def test_evaluate_says_so_and_the_page_shows_it(tmp_path):
    real, others = Scans(60), Scans(40, seed=2)
    evaluation = evaluate(Scans(60, 0.9, seed=1), real, others, value_range=(0.0, 1.2), false_alarm_rate=0.05)
    assert "intensity" in {finding.kind for finding in evaluation.findings}
    assert any("Class 1 of the masks has another brightness" in reason for reason in evaluation.reasons)
    assert evaluation.to_json()["label_intensities"][1]["outside"] == 1.0
    text = evaluation.save(tmp_path).read_text()
    assert "Brightness within the masks" in text
    assert "Samples per second</td><td>not measured" in text


def test_the_trilemma_is_relative_to_real_images():
    def measured(name, value, floor):
        return Measurement(name, value, value, value, floor, None, 10, "higher", (0.0, 1.0), "")

    measures = {
        "a": measured("precision[a]", 0.4, 0.8),
        "b": measured("precision[b]", 0.8, 0.8),
        "c": measured("coverage[a]", 0.9, 0.9),
    }
    source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8))), 4)
    found = trilemma(measures, source)
    assert (found["quality"], found["coverage"]) == (0.5, 1.0)
    assert found["samples_per_s"] == pytest.approx(4 / source.seconds)
    assert trilemma({}, torch.rand(4, 1, 8, 8)) == {"quality": None, "coverage": None, "samples_per_s": None}


class Labelled(Scans):
    """Scans with a class each."""

    def __init__(self, labels, **options):
        super().__init__(len(labels), **options)
        self._labels = np.asarray(labels)

    def labels(self):
        return self._labels


def test_copies_are_searched_within_the_class():
    from torchgenaug.trust.copies.describe import describe

    real, held_out = Labelled([0, 1] * 20), Labelled([0, 1] * 15, seed=3)
    sets = [ImageSet.of(each, name) for each, name in ((real, "real"), (real, "synthetic"), (held_out, "held_out"))]
    described = describe(sets[0].images), describe(sets[1].images)
    found = find_copying(*sets, described, (0.0, 1.0), 0.05)
    assert found.within == "class"
    assert found.report.nearest.tolist() == list(range(40))
    unknown = [sets[0], ImageSet.of(Scans(40), "synthetic"), sets[2]]
    assert find_copying(*unknown, described, (0.0, 1.0), 0.05).within == ""


def test_likeness_that_the_condition_explains_is_no_copying():
    """Every image looks like the one that its mask is from, in training and held-out alike."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(160, 1, 4, 4, generator=draw)
    real = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear") + 0.02 * torch.randn(
        160, 1, 16, 16, generator=draw
    )
    made = real + 0.05 * torch.randn(real.shape, generator=draw)
    train, held_out = real[:80], real[80:]
    naive = evaluate(made[:80], train, held_out, false_alarm_rate=0.05)
    fair = evaluate(made[:80], train, held_out, held_out_synthetic=made[80:], false_alarm_rate=0.05)
    assert naive.copies["found"] > 60
    assert fair.copies["found"] < 20
    assert fair.copies["compared_within"] == "condition"
    assert "held_out_synthetic" not in fair.counts


def test_what_nobody_sees_is_no_other_brightness():
    """Air is exactly 0 in all real images, and nearly so in synthetic ones."""
    real, made = Scans(40), Scans(40, seed=1)
    for each, air in ((real, 0.0), (made, 0.0002)):
        for sample in each.samples:
            sample["image"][sample["mask"] == 0] = air
    assert label_intensities(real, range(40), made, range(40))[0].outside == 1.0
    assert label_intensities(real, range(40), made, range(40), tolerance=0.01)[0].outside == 0.0


@pytest.mark.parametrize("kinds", [1, 3])
def test_images_that_are_all_alike_are_a_collapse(kinds):
    """One image again and again, with a trace of noise: the most complete collapse that there is."""
    from torchgenaug.trust.copies.describe import describe
    from torchgenaug.trust.report.repeats import find_repeats

    real = torch.stack([sample["image"] for sample in Scans(60).samples])
    noise = 0.005 * torch.randn(60, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    made = real[:kinds].repeat(60 // kinds, 1, 1, 1) + noise
    assert find_repeats(describe(made), describe(real)).share > 0.9
    assert find_repeats(describe(real), describe(real)).share < 0.1
