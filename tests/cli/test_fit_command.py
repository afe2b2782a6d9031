from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from torchgenaug import load_synthesizer
from torchgenaug.cli import app
from torchgenaug.cli.fit import _copies
from torchgenaug.cli.numbers import class_limits
from torchgenaug.errors import ConfigurationError

FACTORY = """
    import torch

    class Discs(torch.utils.data.Dataset):
        def __len__(self):
            return 20
        def __getitem__(self, index):
            grid = torch.arange(16.0)
            distance = ((grid[:, None] - 8) ** 2 + (grid - 8) ** 2).sqrt()
            return {"image": torch.sigmoid(3 + index % 4 - distance)[None], "label": index % 2}
"""


@pytest.fixture
def discs(tmp_path, monkeypatch):
    import textwrap

    (tmp_path / "discs_for_fit.py").write_text(textwrap.dedent(FACTORY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield "discs_for_fit:Discs"
    sys.modules.pop("discs_for_fit", None)


def run(*arguments):
    result = CliRunner().invoke(app, ["fit", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


SMALL = [
    "--steps",
    "2",
    "--batch-size",
    "4",
    "--width",
    "8",
    "--sampling-steps",
    "2",
    "--reports",
    "1",
    "--device",
    "cpu",
]


def test_from_data_to_shards(tmp_path, discs):
    result = run("ddpm", discs, "--out", str(tmp_path / "model"), "--condition", "label", *SMALL)
    assert result.exit_code == 0, result.output
    assert "Finished after 2 steps" in result.output
    assert "samples to as many held-out images" in result.output
    (command,) = [line for line in result.output.splitlines() if "torchgenaug render" in line]
    words = command.split()[1:]
    words[words.index("--count") + 1] = "4"
    rendered = CliRunner().invoke(app, words)
    assert rendered.exit_code == 0, rendered.output
    assert load_synthesizer(tmp_path / "model").num_classes == 2


def test_the_same_command_goes_on(tmp_path, discs):
    options = ["--out", str(tmp_path / "model"), *SMALL]
    assert "Finished after 2 steps" in run("ddpm", discs, *options).output
    assert "Finished after 2 steps" in run("ddpm", discs, *options).output


def test_a_time_limit_that_leaves_no_model_is_refused(tmp_path, discs):
    with pytest.raises(ConfigurationError, match="`max_minutes` must be at least"):
        run("ddpm", discs, "--out", str(tmp_path / "model"), *SMALL, "--max-minutes", "0")


def test_a_teacher(tmp_path, discs):
    """The student is told what its teacher is told, without being asked to."""
    run("ddpm", discs, "--out", str(tmp_path / "model"), "--condition", "label", *SMALL)
    options = [*SMALL[:4], *SMALL[6:], "--teacher", str(tmp_path / "model"), "--out", str(tmp_path / "fast")]
    result = run("progressive", discs, *options)
    assert "Finished after 2 steps" in result.output
    fast = load_synthesizer(tmp_path / "fast")
    assert (fast.num_classes, fast.steps) == (2, 2)
    with pytest.raises(ConfigurationError, match=r"`teacher` must be the folder .*--teacher FOLDER"):
        run("progressive", discs, *SMALL, "--out", str(tmp_path / "other"))


def test_a_dry_run_writes_a_picture_only(tmp_path, discs):
    image = pytest.importorskip("PIL.Image")
    result = run("ddpm", discs, "--dry-run", *SMALL)
    assert "M parameters" in result.output
    assert "Nothing was written but the picture" in result.output
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py" and path.name != "__pycache__"] == [
        "dry-run.png"
    ]
    with image.open(tmp_path / "dry-run.png") as picture:
        assert picture.width > 100


def test_a_dry_run_trains_as_the_run_would(tmp_path, discs, monkeypatch):
    """Every option of the loop reaches it: device, precision, augmentation, accumulation, workers, seed."""
    from torchgenaug.recipes import FitOptions, accelerator, batches

    seen = {}
    open_accelerator, training_batches = accelerator.open_accelerator, batches.training_batches

    def opened(device, options):
        seen.update(device=device, precision=options.precision, accumulate=options.accumulate)
        return open_accelerator(device, FitOptions())  # a process has one precision

    def batched(*arguments, **keywords):
        seen.update(keywords)
        return training_batches(*arguments, **keywords)

    monkeypatch.setattr(accelerator, "open_accelerator", opened)
    monkeypatch.setattr(batches, "training_batches", batched)
    options = ["--precision", "bf16", "--no-augment", "--accumulate", "2", "--workers", "1", "--seed", "5"]
    result = run("ddpm", discs, "--dry-run", *SMALL, *options, "--out", str(tmp_path / "model"))
    assert seen == {
        "device": "cpu",
        "precision": "bf16",
        "accumulate": 2,
        "augment": False,
        "spare": 0.85,
        "workers": 1,
        "seed": 5,
    }
    assert "2 steps of 8 samples" in result.output
    assert "on cpu with bf16" in result.output
    assert (tmp_path / "model-dry-run.png").exists()
    assert not (tmp_path / "model").exists()


@pytest.fixture
def brain_scans(tmp_path, monkeypatch):
    """A folder whose name begins like that of an embedded set."""
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (12, 24, 20), dtype=np.uint8)
    for k in range(12):
        (tmp_path / "brain-scans").mkdir(exist_ok=True)
        image.fromarray(pixels[k]).save(tmp_path / "brain-scans" / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    return "brain-scans"


@pytest.mark.parametrize(("embedded", "turns"), [(False, 0), (True, 1)])
def test_pictures_are_turned_by_what_the_data_are(brain_scans, monkeypatch, embedded, turns):
    """Not by what they are called."""
    from torchgenaug import recipes

    if embedded:
        pytest.importorskip("nilearn")
    seen = {}

    def stopped(*arguments, rotate, **keywords):
        seen["rotate"] = rotate
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "fit", stopped)
    CliRunner().invoke(app, ["fit", "ddpm", "brain" if embedded else brain_scans, *SMALL, "--out", "model"])
    assert seen == {"rotate": turns}


def test_sizes_of_one_number_or_one_per_axis(brain_scans):
    assert "image (1, 16, 24)" in run("ddpm", brain_scans, "--dry-run", *SMALL, "--size", "16,24").output
    assert "image (1, 16, 16)" in run("ddpm", brain_scans, "--dry-run", *SMALL, "--size", "16").output
    for wrong in ("big", "16,,2", "4", "16.5"):
        result = run("ddpm", brain_scans, "--dry-run", "--size", wrong)
        assert result.exit_code == 2
        assert "--size" in result.output
    with pytest.raises(ConfigurationError, match=r"`spacing` must be left out where files do not state theirs.*0\.png"):
        run("ddpm", brain_scans, "--dry-run", "--spacing", "1,1")


def test_families_are_listed():
    result = run("list")
    assert result.exit_code == 0
    assert "ddpm" in result.output
    assert "--teacher FOLDER" in result.output


def test_mistakes(tmp_path, discs):
    with pytest.raises(ConfigurationError, match="FAMILY must be one of"):
        run("dragon", discs, "--out", str(tmp_path / "model"))
    with pytest.raises(ConfigurationError, match="The data must have 'mask' for this"):
        run("ddpm", discs, "--with-mask", "--out", str(tmp_path / "model"), *SMALL)
    assert "images to train on are needed" in run("ddpm", "--out", str(tmp_path / "model")).output
    folder = str(tmp_path)
    for order in ((folder,), (folder, "dcgan")):
        family = order[-1] if len(order) == 2 else "ddpm"
        with pytest.raises(ConfigurationError, match=f"For example: torchgenaug fit {family} {folder} --out"):
            run(*order, "--out", str(tmp_path / "model"))
    forgotten = run("ddpm", discs, *SMALL)
    assert forgotten.exit_code == 2
    assert "--out" in forgotten.output


def test_threads(discs):
    before = torch.get_num_threads()
    try:
        run("ddpm", discs, "--dry-run", "--threads", "1", *SMALL)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("text", "expected"), [("50", 50), ("dog=5", {1: 5}), ("cat=3, dog=20", {0: 3, 1: 20})])
def test_limits_of_single_classes(text, expected):
    data = SimpleNamespace(class_names=("cat", "dog"), num_classes=2)
    assert class_limits("--limit", text, data) == expected


@pytest.mark.parametrize("text", ["0", "x", "cow=3", "dog=0", "dog=1,dog=2", "dog"])
def test_limits_that_cannot_be_meant(text):
    with pytest.raises(typer.BadParameter):
        class_limits("--limit", text, SimpleNamespace(class_names=("cat", "dog"), num_classes=2))


def test_why_copies_were_not_looked_for_is_stated():
    """One held-out image has no other; with several, they are nearer to each other."""
    said = [_copies(SimpleNamespace(copied=math.nan, num_judged=count)) for count in (1, 2)]
    assert "with one held-out image there is no other" in said[0]
    assert "nearer to each other" in said[1]
