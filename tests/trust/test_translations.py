"""Images translated from held-out sources are compared with the true images of these."""

from __future__ import annotations

import pytest
import torch

from torchgenaug.trust import evaluate
from torchgenaug.trust.report.translations import translation_measures

pytest.importorskip("torchmetrics")


def samples(count, seed, translate=None):
    """Images that are 1 minus their source, or what `translate` makes of the source."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 4, 4, generator=draw)
    sources = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear")
    images = (translate or (lambda source: 1 - source))(sources)
    return [{"image": image, "source": source} for image, source in zip(images, sources, strict=True)]


def test_a_wrong_contrast_is_worse_than_the_image_of_another_source():
    held_out = samples(12, 1)
    right, wrong = (
        translation_measures([samples(12, 1, how)], held_out, (0.0, 1.0), 0)
        for how in (lambda source: (1 - source) * 0.98, lambda source: source)
    )
    assert right["PSNR, translated"].n == 12
    assert right["PSNR, translated"].value > 30 > right["PSNR, translated"].ceiling
    assert wrong["PSNR, translated"].value < wrong["PSNR, translated"].ceiling
    assert wrong["SSIM, translated"].value < right["SSIM, translated"].value


def test_only_sources_of_held_out_samples_count():
    held_out = samples(12, 1)
    assert translation_measures([samples(30, 5)], held_out, (0.0, 1.0), 0) == {}
    some = samples(30, 5) + samples(12, 1)[:7]
    assert translation_measures([some], held_out, (0.0, 1.0), 0)["PSNR, translated"].n == 7
    assert translation_measures([[{"image": each["image"]} for each in some]], held_out, (0.0, 1.0), 0) == {}


def test_evaluate_states_them():
    train, held_out = samples(60, 0), samples(60, 1)
    found = evaluate(samples(60, 1, lambda source: (1 - source) * 0.97), train, held_out)
    assert found.measures["PSNR, translated"].n == 60
    assert any("true images" in note for note in found.notes)
    plain = evaluate([{"image": each["image"]} for each in samples(60, 3)], train, held_out)
    assert not any("translated" in name for name in plain.measures)
