"""No public call moves a global random state: the random numbers of the user's training run are the user's.

`build_network` is the one exception, and says so: it draws fresh weights as any constructor of a torch module does.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

import torchgenaug
from torchgenaug import synthesizers
from torchgenaug.demo import WEIGHTS
from torchgenaug.recipes import FitOptions, Options, fit, load_data
from torchgenaug.shards import ShardSource, render_shards, verify_shards
from torchgenaug.testing import AnalyticSynthesizer


def states():
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def assert_unmoved(before):
    after = states()
    assert torch.equal(before[0], after[0])
    assert all(np.array_equal(one, other) for one, other in zip(before[1], after[1], strict=True))
    assert before[2] == after[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a saved generator and rendered shards."""
    place = tmp_path_factory.mktemp("states")
    synthesizers.save_synthesizer(generator(), place / "gan")
    render_shards(sequence(), place / "shards", count=4, batch_size=2, progress=False)
    return place


def generator():
    with torch.random.fork_rng(devices=[]):
        module = synthesizers.build_network("torchgenaug:DCGANGenerator", latent_dim=4, shape=[1, 8, 8], width=4)
    return synthesizers.ModuleSynthesizer(module, latent_shape=(4,), value_range=(-1, 1))


def sequence():
    return torchgenaug.SyntheticSequence(AnalyticSynthesizer((8, 8)))


def real():
    return [{"image": torch.zeros(1, 8, 8)} for _ in range(4)]


def rendered(place):
    render_shards(sequence(), place / "more", count=2, batch_size=2, progress=False)


def fitted(place):
    options = Options(steps=1, batch_size=4, width=8, latent_dim=4)
    data = load_data("digits").select(range(24))
    fit("vae", data, place / "fit", recipe=options, options=FitOptions(reports=1), device="cpu", progress=False)


def mixed(place):
    dataset = torchgenaug.SyntheticMixDataset(
        real(), ShardSource(place / "shards"), ratio=0.5, seed=0, fields=("image",)
    )
    return [dataset[k] for k in range(len(dataset))]


def saved(place):
    synthesizers.save_synthesizer(generator(), place / "again")
    synthesizers.synthesizer_sha256(place / "again")


CALLS = {
    "load_synthesizer, generator": lambda place: synthesizers.load_synthesizer(place / "gan"),
    "load_synthesizer, diffusion": lambda _: synthesizers.load_synthesizer(WEIGHTS),
    "from_pretrained": lambda _: synthesizers.DiffusersSynthesizer.from_pretrained(WEIGHTS, value_range=(0, 1)),
    "save_synthesizer": saved,
    "synthesize": lambda place: synthesizers.load_synthesizer(place / "gan").synthesize([1, 2]),
    "SyntheticSequence": lambda _: sequence().batch([0, 1]),
    "render_shards": rendered,
    "verify_shards": lambda place: verify_shards(place / "shards"),
    "ShardSource": lambda place: ShardSource(place / "shards")[0],
    "SyntheticMixDataset": mixed,
    "load_data": lambda _: load_data("digits"),
    "fit": fitted,
}


@pytest.mark.parametrize("name", CALLS)
def test_global_random_states_stay(name, place):
    torch.manual_seed(11)
    np.random.seed(12)
    random.seed(13)
    before = states()
    CALLS[name](place)
    assert_unmoved(before)


def test_the_check_notices_a_draw():
    before = states()
    torch.rand(1)
    with pytest.raises(AssertionError):
        assert_unmoved(before)
