"""``render --no-copies-of`` and ``render --keep``."""

from __future__ import annotations

import dataclasses
import hashlib
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.trust.test_copy_detector import blobs
from torchgenaug import ShardSource
from torchgenaug.cli import app
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.load import load_data
from torchgenaug.trust import CopyDetector, load_kept

FACTORIES = """
import numpy as np
import torch
from torchgenaug import FieldSpec, FunctionSynthesizer
from torchgenaug.recipes.data.load import load_data

REAL = load_data("real.npz")

def fresh(seed):
    coarse = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(seed % (1 << 31)))
    inner = torch.nn.functional.interpolate(coarse, (8, 8), mode="bicubic").clamp(0, 1)
    return torch.nn.functional.pad(inner, (4, 4, 4, 4))[0]

def memorising(seeds, conditions):
    copies = [REAL.samples[s % 60]["image"] * (1 + s % 97 / 300) for s in seeds]
    return {"image": torch.stack([fresh(s) if s % 3 else copy for s, copy in zip(seeds, copies)])}

def model():
    made = FunctionSynthesizer(memorising, {"image": FieldSpec((1, 16, 16))}, fingerprint="memorising")
    made.trained_on = {"samples": list(REAL.ids[:60]), "patients": []}
    return made

def stranger():
    return FunctionSynthesizer(memorising, {"image": FieldSpec((1, 16, 16))}, fingerprint="memorising")

def brightness():
    return lambda batch: batch["image"].flatten(1).mean(1)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    np.savez(tmp_path / "real.npz", images=(blobs(180, 1, (16, 16))[:, 0] * 255).byte().numpy())
    (tmp_path / "factories_for_filters.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "factories_for_filters", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def render(factory, *options):
    arguments = ["render", f"factories_for_filters:{factory}", "--out", "shards", "--count", "24", *options]
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_copies_are_generated_again(here):
    output = render("model", "--no-copies-of", "real.npz")
    assert "Copies of 60 training images are generated again; calibrated on 120 others, so that 1.0%" in output
    real = load_data("real.npz")
    images = torch.stack([real.samples[k]["image"] for k in range(180)])
    detector = CopyDetector(images[:60], images[60:])
    assert not detector(ShardSource("shards").read(np.arange(24))["image"]).flagged.any()


def test_a_model_without_a_record_is_refused(here):
    with pytest.raises(ConfigurationError, match="names 0 samples, none of them there"):
        render("stranger", "--no-copies-of", "real.npz")


def test_the_kept_samples_are_written(here):
    output = render("stranger", "--keep", "factories_for_filters:brightness", "--keep-best", "0.25")
    assert "6 of 24 samples kept (25%, best 0.25)" in output
    source = ShardSource("shards")
    kept = load_kept(source, "shards")
    scores = source.read(np.arange(24))["image"].flatten(1).mean(1)
    assert sorted(kept.positions.tolist()) == sorted(scores.argsort(descending=True)[:6].tolist())
    assert "everything is as it was rendered" in CliRunner().invoke(app, ["verify", "shards"]).output

    record = source.manifest.filter
    assert (record["kept"], record["acceptance_rate"], record["condition"]) == (6, 0.25, "best 0.25")
    assert record["scores"]["max"] == pytest.approx(float(scores.max()))
    file = (here / "shards" / record["scores"]["file"]).read_bytes()
    assert hashlib.sha256(file).hexdigest() == record["scores"]["sha256"]
    # The filter is no part of the plan: the same render is found finished, and a longer one has not been filtered.
    assert source.manifest.render_id == dataclasses.replace(source.manifest, filter=None).render_id
    render("stranger")
    assert ShardSource("shards").manifest.filter == record
    CliRunner().invoke(
        app, ["render", "factories_for_filters:stranger", "--out", "shards", "--count", "30", "--extend"]
    )
    assert (len(ShardSource("shards")), ShardSource("shards").manifest.filter) == (30, None)


@pytest.mark.parametrize(
    "options",
    [
        ("--keep-best", "0.5"),
        ("--keep", "factories_for_filters:brightness", "--keep-best", "2"),
        ("--keep", "no:where"),
    ],
)
def test_a_filter_that_cannot_work_is_refused_before_anything_is_rendered(here, options):
    with pytest.raises(ConfigurationError, match=r"--keep|`best` must be a fraction"):
        render("stranger", *options)
    assert not list(here.glob("shards/*.h5"))
