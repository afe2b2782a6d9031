from __future__ import annotations

import csv
import json
import os
import re
import signal
import textwrap
import warnings

import pytest
import torch
from fit_helpers import blobs, tiny

from tests import interpreter
from torchgenaug import load_synthesizer
from torchgenaug.errors import ConfigurationError, DivergenceError, SynthesizerLoadError
from torchgenaug.recipes import FitOptions, fit, report, state
from torchgenaug.recipes.build import build_recipe

DRAW_CURVES = report._draw_curves


def run(out, *, family="ddpm", recipe=None, data=None, device="cpu", **options):
    return fit(
        family,
        data or blobs(),
        out,
        recipe=recipe or tiny(condition="label"),
        options=FitOptions(**{"reports": 2} | options),
        device=device,
        progress=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, short_reports):
    """With the loss curves, which other tests leave out."""
    out = tmp_path_factory.mktemp("fit") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_draw_curves", DRAW_CURVES)
        return out, run(out)


def test_the_folder_is_a_synthesizer_that_says_what_it_saw(finished):
    out, result = finished
    loaded = load_synthesizer(out)
    assert loaded.fingerprint == result.synthesizer.fingerprint
    assert loaded.num_classes == 2
    assert loaded.fields["image"].value_range == (0, 100)
    assert loaded.trained_on["data"] == "blobs"
    assert loaded.trained_on["steps"] == 4
    # A tenth of the 24 is held out, and not listed.
    assert len(loaded.trained_on["samples"]) == 22
    assert result.finished
    assert result.steps == 4


def test_a_training_that_diverges_says_so(tmp_path):
    options = tiny(condition=None, learning_rate=1e18, steps=60)
    with pytest.raises(DivergenceError, match=r"must have finite losses, got .* by step \d+ at .*smaller --learning"):
        run(tmp_path / "model", family="vae", recipe=options)
    assert not (tmp_path / "model" / "synthesizer.json").exists()


def test_what_was_saved_before_weights_became_no_numbers_is_kept(tmp_path, monkeypatch):
    train_step = state.TrainingState.train_step

    def breaks(self, batches, progress):
        losses = train_step(self, batches, progress)
        if self.step == 3:
            for weight in self.recipe.networks["unet"].parameters():
                weight.data.fill_(float("nan"))
            return {name: loss * float("nan") for name, loss in losses.items()}
        return losses

    monkeypatch.setattr(state.TrainingState, "train_step", breaks)
    for _ in range(2):  # a resume begins at what was saved last
        with pytest.raises(DivergenceError, match=r"by step 4 at .* at step 2 is kept"):
            run(tmp_path / "model")
        kept = load_synthesizer(tmp_path / "model")
        assert kept.trained_on["steps"] == 2
        assert all(weight.isfinite().all() for weight in kept.unet.parameters())


def test_reports(finished):
    out, result = finished
    with (out / "training" / "losses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["step"]) for row in rows] == [2, 4]
    assert float(rows[-1]["distance"]) == result.distance
    assert result.floor < result.noise
    pictures = sorted(path.name for path in (out / "training" / "samples").iterdir())
    assert pictures == ["step-0000002.png", "step-0000004.png"]
    assert (out / "training" / "losses.png").stat().st_size > 1000


@pytest.mark.parametrize("at", [1, 2, 3])
def test_interrupted_anywhere_it_ends_with_the_same_bits(tmp_path, monkeypatch, finished, at):
    """A time limit ends the run after step `at`; the same call goes on."""
    whole, _ = finished
    step = state.TrainingState.train_step

    def watched(self, batches, progress):
        losses = step(self, batches, progress)
        if self.step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(state.TrainingState, "train_step", watched)
        first = run(tmp_path / "model")
    assert not first.finished
    assert first.steps == at
    torch.randn(3)  # whatever happens in between
    second = run(tmp_path / "model")
    assert second.finished
    assert second.synthesizer.fingerprint == load_synthesizer(whole).fingerprint
    assert (tmp_path / "model/training/losses.csv").read_text() == (whole / "training/losses.csv").read_text()


def test_a_kill_at_any_moment_leaves_a_run_that_goes_on(tmp_path):
    """SIGKILL after the first report: the checkpoint is taken up. Of a family that imports little."""
    whole = run(tmp_path / "whole", family="dcgan").synthesizer
    program = f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import torch
        torch.set_num_threads(1)
        from torchgenaug.recipes import state
        from test_fit import run
        step = state.TrainingState.train_step
        def deadly(self, batches, progress):
            if self.step == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, batches, progress)
        state.TrainingState.train_step = deadly
        run({str(tmp_path / "model")!r}, family="dcgan")
    """
    done = interpreter.run(["-c", textwrap.dedent(program)])
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert load_synthesizer(tmp_path / "model").trained_on["steps"] == 2
    result = run(tmp_path / "model", family="dcgan")
    assert result.synthesizer.fingerprint == whole.fingerprint


def test_the_global_generator_is_left_as_it_was(tmp_path):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    run(tmp_path / "model", recipe=tiny(steps=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_other_settings_are_refused_and_listed(finished):
    out, _ = finished
    with pytest.raises(ConfigurationError, match=r"differences: seed: 0 there, 1 now; width: 8 there, 16 now.*--fresh"):
        run(out, seed=1, recipe=tiny(condition="label", width=16))
    with pytest.raises(ConfigurationError, match="data_sha256"):
        run(out, data=blobs(30))


def test_a_finished_run_is_not_done_again(finished):
    out, result = finished
    stamp = (out / "synthesizer.json").stat().st_mtime_ns
    again = run(out)
    assert again.finished
    assert again.steps == 4
    assert again.distance == result.distance
    assert (out / "synthesizer.json").stat().st_mtime_ns == stamp


def test_fresh_begins_again(tmp_path):
    run(tmp_path / "model", recipe=tiny(steps=1))
    result = fit(
        "ddpm",
        blobs(),
        tmp_path / "model",
        recipe=tiny(steps=2),
        options=FitOptions(reports=1),
        device="cpu",
        fresh=True,
        progress=False,
    )
    assert result.steps == 2
    assert result.synthesizer.trained_on["steps"] == 2


def test_a_damaged_checkpoint_is_named(tmp_path):
    run(tmp_path / "model", recipe=tiny(steps=1))
    (tmp_path / "model/training/checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(SynthesizerLoadError, match=r"checkpoint.pt must be a checkpoint.*--fresh"):
        run(tmp_path / "model", recipe=tiny(steps=1))


def test_patience_keeps_the_best_model(tmp_path, monkeypatch):
    """The distance grows from the first report on: the run stops after two more, with the first one's model."""
    from torchgenaug.recipes.report import Judge

    distances = iter([1.0, 2.0, 3.0, 0.5])
    monkeypatch.setattr(Judge, "distance", lambda self, samples: next(distances))
    result = run(tmp_path / "model", recipe=tiny(steps=4), reports=4, patience=2)
    assert result.finished
    assert result.steps == 3
    assert result.synthesizer.trained_on["steps"] == 1


def test_copies_are_warned_of(tmp_path, monkeypatch):
    from torchgenaug.recipes.report import Judge

    monkeypatch.setattr(Judge, "copied", lambda self, samples: (0.9, True))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(tmp_path / "model", recipe=tiny(steps=1), reports=1)
    (message,) = [
        str(each.message) for each in caught if "copy" in str(each.message) and "samples" in str(each.message)
    ]
    assert re.match(r"At step 1, 90% of the samples lie nearer to training images.*begins to copy", message)


def test_gradients_are_accumulated(tmp_path):
    """Two batches of two: the same gradient as one of four, where no noise is drawn; here at least another result."""
    one = run(tmp_path / "one", recipe=tiny(steps=2, batch_size=4))
    two = run(tmp_path / "two", recipe=tiny(steps=2, batch_size=2), accumulate=2)
    assert two.steps == one.steps == 2
    assert json.loads((tmp_path / "two/training/run.json").read_text())["accumulate"] == 2


def test_two_processes_train_the_same_weights(tmp_path):
    program = f"""
        import os, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import torch
        torch.set_num_threads(1)
        from test_fit import run, tiny, state
        average = state.TrainingState._average
        def watched(self):
            average(self)
            networks = self.recipe.networks.values()
            total = sum(float(each.detach().sum()) for network in networks for each in network.parameters())
            sys.stdout.write(f"weights {{self.step}} {{self.accelerator.process_index}} {{total}}\\n")
        state.TrainingState._average = watched
        result = run({str(tmp_path / "model")!r}, family="dcgan", recipe=tiny(steps=2), device=None)
        sys.stdout.write(f"finished {{result.finished}} {{result.steps}}\\n")
    """
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(program))
    ends = interpreter.run_ranks([script], 2)
    assert [end.returncode for end in ends] == [0, 0], [end.stderr for end in ends]
    output = "".join(end.stdout for end in ends)
    lines = sorted(line.split() for line in output.splitlines() if line.startswith("weights"))
    assert len(lines) == 4
    for one, other in (lines[:2], lines[2:]):
        assert one[1] == other[1]
        assert one[3] == other[3]
    assert output.count("finished True 2") == 2
    assert load_synthesizer(tmp_path / "model").trained_on["steps"] == 2


@pytest.mark.parametrize(
    ("family", "recipe", "message"),
    [
        ("dragon", tiny(), "FAMILY must be one of ddpm"),
        ("ddpm", tiny(condition="age"), r"`condition` must be one that ddpm can take \(none, label"),
        ("ddpm", tiny(steps=0), "`steps` must be at least 1, got 0"),
        ("ddpm", tiny(learning_rate=-1.0), "`learning_rate` must be positive"),
    ],
)
def test_bad_settings(tmp_path, family, recipe, message):
    with pytest.raises(ConfigurationError, match=message):
        run(tmp_path / "model", family=family, recipe=recipe)
    assert not (tmp_path / "model" / "synthesizer.json").exists()


def test_data_without_what_is_asked_for(tmp_path):
    import dataclasses

    data = blobs()
    fields = {name: spec for name, spec in data.fields.items() if name == "image"}
    with pytest.raises(ConfigurationError, match="The data must have 'label' for this, got image"):
        run(tmp_path / "model", data=dataclasses.replace(data, fields=fields))
    with pytest.raises(ConfigurationError, match=r"The data must have 'mask' for this, got image.*--with-mask"):
        run(tmp_path / "model", data=dataclasses.replace(data, fields=fields), recipe=tiny(with_mask=True))
    for family, condition, message in (
        ("munit", None, r"must have 'source' for munit, got image from 'blobs'\. .* sources/ next to it"),
        ("munit", "source", r"must have 'source' for this, got image from 'blobs'\. .* sources/ next to it"),
        ("pix2pix", None, "must have 'mask' or 'source' for pix2pix"),
        ("acgan", "label", "must have 'label' for this.*labels.csv"),
    ):
        with pytest.raises(ConfigurationError, match=message) as raised:
            build_recipe(family, dataclasses.replace(data, fields=fields), tiny(condition=condition))
        assert "Leave" not in str(raised.value)


def test_sizes_that_cannot_be_halved(tmp_path):
    with pytest.raises(ConfigurationError, match=r"halved 1 times, got \(17, 17\).*--size 18"):
        run(tmp_path / "model", data=blobs(spatial=(17, 17)))
