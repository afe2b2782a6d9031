"""Everything public pickles, and the copy gives the same samples."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torchio as tio

from torchgenaug import (
    ClassLabels,
    FieldSpec,
    FunctionSynthesizer,
    MixPlan,
    ModuleSynthesizer,
    RealFields,
    SyntheticMixDataset,
    SyntheticPool,
    SyntheticSequence,
    render_shards,
)
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource


def ramps(seeds, conditions):
    return {"image": torch.stack([torch.full((1, 4, 4), (seed % 97) / 97) for seed in seeds])}


def sequence():
    return SyntheticSequence(AnalyticSynthesizer((8, 8), num_classes=3), ClassLabels(3), seed=1)


REAL = [{"image": torch.rand(1, 8, 8), "mask": torch.ones(1, 8, 8).long(), "label": k % 3} for k in range(6)]


def same(a, b):
    return all(torch.equal(torch.as_tensor(a[name]), torch.as_tensor(b[name])) for name in a)


@pytest.mark.parametrize(
    "synthesizer",
    [
        AnalyticSynthesizer((8, 8)),
        FunctionSynthesizer(ramps, {"image": FieldSpec((1, 4, 4))}, fingerprint="ramps"),
        ModuleSynthesizer(torch.nn.Unflatten(1, (1, 2, 2)), latent_shape=(4,), value_range=(-7, 7)),
    ],
    ids=lambda synthesizer: type(synthesizer).__name__,
)
def test_synthesizers(synthesizer):
    copy = pickle.loads(pickle.dumps(synthesizer))
    assert copy.fingerprint == synthesizer.fingerprint
    assert same(copy.synthesize([1, 2]), synthesizer.synthesize([1, 2]))


@pytest.mark.parametrize("conditions", [ClassLabels(3), RealFields(REAL, ["mask"])], ids=lambda c: type(c).__name__)
def test_conditions(conditions):
    copy = pickle.loads(pickle.dumps(conditions))
    assert copy.fingerprint == conditions.fingerprint
    assert same(copy([0, 7]), conditions([0, 7]))


def test_sequence_plan_and_spec():
    copy = pickle.loads(pickle.dumps(sequence()))
    assert copy.fingerprint == sequence().fingerprint
    assert same(copy.batch([4, 9]), sequence().batch([4, 9]))
    plan = pickle.loads(pickle.dumps(MixPlan(9, 9, 0.5)))
    assert (plan.is_synthetic(range(9), 2) == MixPlan(9, 9, 0.5).is_synthetic(range(9), 2)).all()
    assert pickle.loads(pickle.dumps(FieldSpec((1, 2)))) == FieldSpec((1, 2))


def test_sources_and_the_mix(tmp_path):
    positions = np.arange(4)
    shards = render_shards(sequence(), tmp_path / "shards", 8, batch_size=4, shard_size=4)
    with SyntheticPool(sequence(), 8, batch_size=4, background=False) as pool:
        for source in (shards, pool, InMemorySource(sequence(), 8)):
            expected = source.read(positions)
            assert same(pickle.loads(pickle.dumps(source)).read(positions), expected)
            mixed = SyntheticMixDataset(REAL, source, 0.5, transform=tio.RandomAffine(degrees=(0, 0, 0, 0, 0, 9)))
            copy = pickle.loads(pickle.dumps(mixed))
            assert all(same(copy[index], mixed[index]) for index in range(6))
