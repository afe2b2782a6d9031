"""The conformance suites, on what this module supplies itself; and proof that they can fail."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource, SourceConformance, SynthesizerConformance


class TestAnalytic(SynthesizerConformance):
    tolerance = 0.0

    def make(self):
        return AnalyticSynthesizer((10, 11))


class TestAnalyticVolumesWithClasses(SynthesizerConformance):
    tolerance = 0.0

    def make(self):
        return AnalyticSynthesizer((6, 7, 8), num_classes=3, channels=2, value_range=(-1000.0, 3000.0))

    def conditions(self, seeds):
        return {"label": torch.tensor([seed % 3 for seed in seeds])}


class TestInMemory(SourceConformance):
    def sequence(self):
        return SyntheticSequence(AnalyticSynthesizer((8, 8)), seed=2)

    def make(self):
        return InMemorySource(self.sequence(), 7)


class Forgetful(AnalyticSynthesizer):
    """Draws from the global generator: what most code of the field does."""

    def synthesize(self, seeds, conditions=None):
        made = super().synthesize(seeds, conditions)
        return {**made, "image": torch.rand_like(made["image"])}


class BatchBound(AnalyticSynthesizer):
    """Normalises over the batch: a BatchNorm in train mode."""

    def synthesize(self, seeds, conditions=None):
        made = super().synthesize(seeds, conditions)
        return {**made, "image": made["image"] / made["image"].max()}


class Unseeded(AnalyticSynthesizer):
    def synthesize(self, seeds, conditions=None):
        return super().synthesize([0] * len(seeds), conditions)


class ShortSeeded(AnalyticSynthesizer):
    """Keeps 32 bits of the seed, as torch's CPU generator does."""

    def synthesize(self, seeds, conditions=None):
        return super().synthesize([seed & 0xFFFFFFFF for seed in seeds], conditions)


class Restless(AnalyticSynthesizer):
    calls = 0

    @property
    def fingerprint(self):
        Restless.calls += 1
        return hashlib.sha256(str(Restless.calls).encode()).hexdigest()


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (Forgetful, "test_same_seeds_same_samples_whatever_came_before"),
        (Forgetful, "test_leaves_global_randomness_alone"),
        (BatchBound, "test_sample_does_not_depend_on_its_batch"),
        (Unseeded, "test_different_seeds_different_samples"),
        (ShortSeeded, "test_different_seeds_different_samples"),
        (Restless, "test_fingerprint_is_stable"),
    ],
)
def test_the_suite_catches_a_broken_synthesizer(broken, law):
    class Suite(SynthesizerConformance):
        __test__ = False

        def make(self):
            return broken((8, 8))

    with pytest.raises(AssertionError):
        getattr(Suite(), law)()


def test_the_source_suite_catches_a_wrong_sample():
    class Shifted(InMemorySource):
        def read(self, positions):
            return super().read((positions + 1) % len(self))

    class Suite(TestInMemory):
        __test__ = False

        def make(self):
            return Shifted(self.sequence(), 7)

    with pytest.raises(AssertionError):
        Suite().test_reads_the_samples_of_its_sequence()


def test_analytic_labels_count_the_ellipses():
    """Class k has k + 1 ellipses: the mask grows with the label on average."""
    synthesizer = AnalyticSynthesizer((32, 32), num_classes=3)
    areas = []
    for label in range(3):
        labels = torch.full((64,), label)
        made = synthesizer.synthesize(np.arange(64).tolist(), {"label": labels})
        areas.append(made["mask"].float().mean().item())
    assert areas[0] < areas[1] < areas[2]
