"""Registered comparison and the shortlist, against plain loops; the noise that is read off an image."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from torchgenaug.trust.copies.noise import noise_variance, without_noise
from torchgenaug.trust.copies.registration import Registration, nearest_registered
from torchgenaug.trust.copies.search import search_with_shortlist


@pytest.mark.parametrize("spatial", [(12, 20), (11, 10, 12)])
def test_windows_are_those_that_are_cut_out(spatial):
    draw = torch.Generator().manual_seed(0)
    images = torch.randn((40, *spatial), generator=draw)
    frame = Registration.of(images)
    side = [length - 2 * margin for length, margin in zip(spatial, frame.margins, strict=True)]
    windows = frame.windows(images[:3])
    number = 0
    for offset in np.ndindex(*(2 * margin + 1 for margin in frame.margins)):
        cut = images[(slice(0, 3), *(slice(at, at + each) for at, each in zip(offset, side, strict=True)))].flatten(1)
        cut = functional.normalize(cut - cut.mean(1, keepdim=True), dim=1)
        expected = functional.normalize((cut - frame.mean) @ frame.basis, dim=1)
        torch.testing.assert_close(windows[:, number], expected, atol=1e-4, rtol=0)
        number += 1
    assert windows.shape[1] == number
    middle = windows[:, number // 2]
    torch.testing.assert_close(frame.middles(images[:3])[:, 0], middle, atol=1e-4, rtol=0)


def test_a_shifted_and_turned_image_is_registered():
    images = torch.randn((60, 20, 20), generator=torch.Generator().manual_seed(1))
    frame = Registration.of(images)
    moved = images.roll((2, -1), (1, 2)).rot90(1, (1, 2)).flip(1)
    middles, all_rows = frame.middles(images), torch.arange(60).expand(60, 60)
    ((distance, row),) = nearest_registered(frame, moved, [(middles, all_rows)])
    assert row.tolist() == list(range(60))
    assert distance.max() < 1e-4
    few = torch.tensor([[3, -1], [-1, -1]])
    (_, second), (distance, row) = nearest_registered(
        frame, moved[:2], [(middles[1:], all_rows[:2, :59]), (middles, few)]
    )
    assert second[1] == 0  # row 1 of the whole set
    assert row.tolist() == [3, -1]
    assert distance[1] == torch.inf


def test_the_shortlist_holds_the_nearest():
    draw = torch.Generator().manual_seed(2)
    keys = functional.normalize(torch.randn((2500, 8), generator=draw), dim=1)
    queries = functional.normalize(torch.randn((30, 8), generator=draw), dim=1)
    groups = np.arange(2500) % 7
    for size, at_least in ((900, 1.0), (2500, 0.75)):  # of many keys, one of eight comes to it
        distance, row, short = search_with_shortlist([queries], keys[:size], groups[:size], np.full(30, 3), 32)
        cosines = (queries @ keys[:size].T).masked_fill(torch.from_numpy(groups[:size] == 3), -torch.inf)
        best = cosines.topk(32, dim=1).indices
        assert (row == best[:, 0]).all()
        assert (short[:, 0] == row).all(), "the nearest is first"
        torch.testing.assert_close(distance, 1 - cosines.amax(1), atol=1e-6, rtol=0)
        found = np.mean([len({*a} & {*b}) / 32 for a, b in zip(short.tolist(), best.tolist(), strict=True)])
        assert found >= at_least
    _, row, short = search_with_shortlist([queries], keys[:3], np.array([3, 3, 3]), np.full(30, 3), 32)
    assert (row == -1).all()
    assert short.shape == (30, 3)
    assert (short == -1).all()


@pytest.mark.parametrize("spatial", [(32, 32), (12, 12, 12)])
def test_the_level_of_noise_is_read_off_an_image(spatial):
    smooth = sum(torch.linspace(0, 3, side).sin().view(-1, *[1] * k) for k, side in enumerate(reversed(spatial)))
    noise = torch.randn((20, *spatial), generator=torch.Generator().manual_seed(3))
    assert float(noise_variance(smooth + 0.3 * noise).mean()) == pytest.approx(0.09, rel=0.1)
    assert float(noise_variance(smooth[None])) < 1e-4
    assert noise_variance(torch.rand(2, 1, 5)).tolist() == [0.0, 0.0]


def test_noise_is_taken_off_both_distances_as_far_as_it_may_explain_the_smaller_one():
    distances = np.array([[0.5, 0.1, 0.25, 0.0], [0.6, 0.5, 0.24, 1.0]])  # to train, to held-out
    found = without_noise(distances, np.array([0.2, 0.2, 0.2, 0.0]))
    # 1.3 times what is expected; all of the smaller distance; of the other one; no noise
    np.testing.assert_allclose(found, [[0.25, 0.01, 0.02, 0.0], [0.35, 0.41, 0.01, 1.0]], atol=1e-12)
    assert without_noise(np.array([[np.inf], [0.1]]), np.array([0.2]))[0, 0] == np.inf
