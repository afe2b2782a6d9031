from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
import torchio as tio

from torchgenaug.samples.layout import SampleLayout
from torchgenaug.samples.random_state import seeded
from torchgenaug.samples.seeded_transform import SeededTransform
from torchgenaug.samples.torchio_noise import with_own_noise

SEEDS = np.array([2**63 + 5, 4, 77], np.uint64)


def subject():
    image = torch.rand((1, 6, 5, 1), generator=torch.Generator().manual_seed(0))
    return tio.Subject(first=tio.ScalarImage(tensor=image), second=tio.ScalarImage(tensor=image + 1))


def as_torchio_does(transform, seed):
    with seeded(torch_only=True) as reseed:
        reseed(int(seed))
        return transform(subject())


@pytest.mark.parametrize(
    "transform",
    [
        tio.RandomNoise(),
        tio.transforms.Noise(mean=1, std=2, seed=5),
        tio.RandomNoise(mean=(-1, 1), std=(0, 3), p=0.5),
        tio.RandomNoise(include=["second"]),
        tio.Compose([tio.RandomFlip(), tio.RandomNoise(), tio.RandomGamma()]),
        tio.Compose({"noise": tio.RandomNoise(std=2), "flip": tio.RandomFlip()}),
        tio.OneOf({tio.Compose([tio.RandomNoise(std=3)]): 0.5, tio.RandomNoise(mean=9): 0.5}),
    ],
    ids=lambda one: repr(one)[:40],
)
def test_numbers_and_history_are_those_of_torchio_and_no_global_generator_is_seeded(transform, monkeypatch):
    expected = [as_torchio_does(transform, seed) for seed in SEEDS]
    before = copy.deepcopy(transform)
    seeded_transform = pickle.loads(pickle.dumps(SeededTransform(transform, SampleLayout.of(subject()), {})))
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("seeds the generators of all devices"))
    found = seeded_transform([subject() for _ in SEEDS], SEEDS)
    for one, other in zip(found, expected, strict=True):
        for name in ("first", "second"):
            assert torch.equal(one[name].data, other[name].data)
        assert repr(one.history) == repr(other.history)
    assert repr(transform) == repr(before)
    assert type(transform).__module__.startswith("torchio."), "the user's own is left as it was"
    monkeypatch.undo()
    again = found[0].get_composed_history()
    assert torch.equal(again(subject())["first"].data, found[0]["first"].data), "the history can be applied again"


def test_what_holds_no_noise_is_returned_itself():
    class OfAUser(tio.RandomNoise):
        pass

    for transform in (tio.Compose([tio.RandomFlip(), tio.RandomGamma()]), OfAUser(), tio.Lambda(torch.neg)):
        assert with_own_noise(transform) is transform
    function = tio.Lambda(torch.neg)
    assert with_own_noise(tio.Compose([function, tio.RandomNoise()])).transforms[0] is function


def test_noise_can_be_taken_away_again():
    noisy = with_own_noise(tio.RandomNoise(std=0.5))(subject())
    back = noisy.apply_inverse_transform(warn=False)
    assert torch.allclose(back["first"].data, subject()["first"].data, atol=1e-5)
