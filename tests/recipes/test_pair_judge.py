"""Translators are judged by held-out pairs: PSNR and SSIM see a wrong contrast that distances of sets do not."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
import torch

from torchgenaug.recipes import FitOptions, Options, fit
from torchgenaug.recipes.data.training_data import TensorSamples, TrainingData
from torchgenaug.recipes.pairs import PairJudge, pairs_text, translation_quality
from torchgenaug.types import FieldSpec

pytest.importorskip("torchmetrics")


def pairs(count, seed):
    """The image is 1 minus its source."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.nn.functional.interpolate(torch.rand(count, 1, 4, 4, generator=draw), (16, 16), mode="bilinear")
    spec = FieldSpec((1, 16, 16), value_range=(0.0, 1.0))
    columns = {"image": images, "source": 1 - images}
    ids = tuple(f"{seed} {k}" for k in range(count))
    return TrainingData(TensorSamples(columns), dict.fromkeys(columns, spec), ids, "pairs")


class Inverse:
    """The true translation."""

    def synthesize(self, seeds, conditions=None):
        return {"image": 1 - conditions["source"]}


class Identity(Inverse):
    """The wrong contrast."""

    def synthesize(self, seeds, conditions=None):
        return {"image": conditions["source"]}


def test_the_true_translation_is_best_and_the_wrong_contrast_worse_than_the_mean_image():
    train, held_out = pairs(20, 0), pairs(18, 1)
    true, wrong = (translation_quality(each, train, held_out) for each in (Inverse(), Identity()))
    assert true["psnr_db"] == 100
    assert true["ssim"] == pytest.approx(1, abs=1e-5)
    assert wrong["psnr_db"] < wrong["psnr_db_mean_image"] == true["psnr_db_mean_image"]
    assert wrong["ssim"] < wrong["ssim_mean_image"]


def test_psnr_is_that_of_a_known_error():
    train, held_out = pairs(20, 0), pairs(4, 1)
    truth = torch.stack([held_out.samples[k]["image"] for k in range(4)]).clamp(0, 0.9)
    assert PairJudge(train, truth).measures(truth + 0.1)["psnr_db"] == pytest.approx(20, abs=0.01)


def test_images_too_small_for_a_window_have_no_ssim():
    train = pairs(8, 0)
    small = replace(
        train,
        samples=TensorSamples({name: values[..., :8, :8] for name, values in train.samples.columns.items()}),
        fields=dict.fromkeys(train.fields, FieldSpec((1, 8, 8), value_range=(0.0, 1.0))),
    )
    assert "ssim" not in PairJudge(small, torch.rand(2, 1, 8, 8)).measures(torch.rand(2, 1, 8, 8))


def test_fit_reports_held_out_pairs_of_translators_only(tmp_path):
    data, held_out = pairs(20, 0), pairs(12, 1)
    options = FitOptions(reports=2)
    result = fit("look-up", data, tmp_path / "table", held_out=held_out, recipe=Options(condition="source", steps=60),
                 options=options, device="cpu", progress=False)  # fmt: skip
    assert result.pairs["psnr_db"] > result.pairs["psnr_db_mean_image"]
    with (tmp_path / "table" / "training" / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["psnr_db"]) == pytest.approx(result.pairs["psnr_db"])
    assert pairs_text(result.pairs) in (tmp_path / "table" / "README.md").read_text()
    plain = fit("dcgan", data.without("source"), tmp_path / "gan",
                held_out=held_out.without("source"), recipe=Options(steps=1, width=4), options=FitOptions(reports=1),
                device="cpu", progress=False)  # fmt: skip
    assert plain.pairs == {}
