"""What `fit` leaves behind is whole: damage is named, two runs do not share a folder, kills leave a loadable model."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from fit_helpers import blobs, tiny

from torchgenaug import load_synthesizer
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.recipes import FitOptions, checkpoint, fit, loop, state
from torchgenaug.recipes.accelerator import checked_device
from torchgenaug.recipes.data_fingerprint import data_fingerprint
from torchgenaug.recipes.lock import locked
from torchgenaug.recipes.time_limit import Pace, planned
from torchgenaug.synthesizers.saving import folder as saving


def run(out, *, recipe=None, data=None, device="cpu", fresh=False, **options):
    return fit(
        "vae",
        data or blobs(),
        out,
        recipe=recipe or tiny(steps=2),
        options=FitOptions(**{"reports": 1} | options),
        device=device,
        fresh=fresh,
        progress=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("safety") / "model"
    return out, run(out)


def flipped(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    return bytes(content)


@pytest.mark.parametrize("place", [0, 30, 60, 2000, -2000, -1])
def test_one_flipped_bit_of_a_checkpoint_is_named(finished, tmp_path, place):
    path = finished[0] / "training" / "checkpoint.pt"
    (tmp_path / "checkpoint.pt").write_bytes(flipped(path, place))
    with pytest.raises(SynthesizerLoadError, match=r"must be a checkpoint.*saved last is still there.*--fresh"):
        checkpoint.load(tmp_path, torch.device("cpu"))


@pytest.mark.parametrize(("count", "length"), [(1_000_002, 1), (1000, 30_000)])
def test_identifiers_that_no_model_could_state_are_refused_before_the_training(tmp_path, count, length):
    data = dataclasses.replace(blobs(), ids=tuple(f"{k}".zfill(length) for k in range(count)))
    with pytest.raises(ConfigurationError, match=r"identifiers of samples .* must take at most .*--limit"):
        run(tmp_path / "model", data=data)
    assert not (tmp_path / "model").exists()


def test_a_checkpoint_of_another_run_is_named(finished, tmp_path):
    for name in ("checkpoint.pt", "run.json"):
        (tmp_path / name).write_bytes((finished[0] / "training" / name).read_bytes())
    assert checkpoint.load(tmp_path, torch.device("cpu"))["step"] == 2
    (tmp_path / "run.json").unlink()
    checkpoint.begin(tmp_path, {"seed": 1})
    with pytest.raises(SynthesizerLoadError, match=r"must be a checkpoint of this run.*one of another run.*--fresh"):
        checkpoint.load(tmp_path, torch.device("cpu"))


@pytest.mark.parametrize("name", ["checkpoint.pt", "run.json"])
def test_files_that_never_end_are_refused(finished, tmp_path, name):
    for each in ("checkpoint.pt", "run.json"):
        (tmp_path / each).write_bytes((finished[0] / "training" / each).read_bytes())
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(SynthesizerLoadError, match=r"a named pipe"):
        checkpoint.load(tmp_path, torch.device("cpu"))


def test_a_lock_of_another_user_that_may_only_be_read_still_locks(tmp_path, monkeypatch):
    opened = os.open

    def refuse(path, flags, *mode, **options):
        if str(path).endswith(".fit.lock") and flags & os.O_RDWR and os.path.exists(path):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *mode, **options)

    (tmp_path / ".fit.lock").touch()
    monkeypatch.setattr(os, "open", refuse)
    with locked(tmp_path), pytest.raises(ConfigurationError, match="no other run trains in"), locked(tmp_path):
        pass


@pytest.mark.parametrize("damage", ["", "[]", "{", "null", "[" * 100_000, '{"seed": 0}'])
def test_a_damaged_run_file_is_named(finished, tmp_path, damage):
    settings = json.loads((finished[0] / "training" / "run.json").read_text())
    (tmp_path / "run.json").write_text(damage)
    with pytest.raises(SynthesizerLoadError, match=r"run.json must hold the settings of a run.*--fresh"):
        checkpoint.begin(tmp_path, settings)


def test_an_edited_run_file_is_named(finished, tmp_path):
    text = (finished[0] / "training" / "run.json").read_text()
    (tmp_path / "run.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(SynthesizerLoadError, match="damaged, edited"):
        checkpoint.begin(tmp_path, {"seed": 1})


@pytest.mark.parametrize("row", [0, 1, 57, 199])
def test_every_sample_counts_in_the_fingerprint_of_the_data(row):
    data, other = blobs(200), blobs(200)
    assert data_fingerprint(data) == data_fingerprint(other)
    other.samples.columns["image"][row] += 1
    assert data_fingerprint(data) != data_fingerprint(other)


@pytest.mark.parametrize("fresh", [False, True])
def test_two_runs_do_not_share_a_folder(finished, fresh):
    out, _ = finished
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with locked(out), pytest.raises(ConfigurationError, match=r"no other run trains in.*Nothing was changed"):
        run(out, fresh=fresh)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_drafts_of_killed_runs_are_removed(tmp_path):
    (tmp_path / "unet").mkdir()
    drafts = [".checkpoint.pt.123", "unet/.config.json.77", ".losses.5.csv"]
    kept = ["unet/config.json", ".hidden", "checkpoint.pt", ".version.1.txt"]
    for name in (*drafts, *kept):
        (tmp_path / name).write_text("")
    with locked(tmp_path):
        assert not any((tmp_path / name).exists() for name in drafts)
        assert all((tmp_path / name).exists() for name in kept)


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs but what the test itself does."""


@pytest.mark.parametrize("at", range(40))
def test_a_kill_while_a_model_is_replaced_leaves_the_old_or_the_new_one(finished, tmp_path, monkeypatch, at):
    first, second = finished[1].synthesizer, other()
    saving.rewrite_synthesizer(first, tmp_path)
    steps = iter(range(10**6))

    def killing(original):
        def call(*arguments, **options):
            if next(steps) >= at:
                raise Killed
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("_write", "_sync_folder", "_sync_file"):
            patch.setattr(saving, name, killing(getattr(saving, name)))
        for name in ("rename", "replace", "mkdir"):
            patch.setattr(saving.Path, name, killing(getattr(saving.Path, name)))
        patch.setattr(saving.shutil, "rmtree", killing(saving.shutil.rmtree))
        patch.setattr(saving.shutil, "copyfile", killing(saving.shutil.copyfile))
        try:
            saving.rewrite_synthesizer(second, tmp_path)
            was_killed = False
        except Killed:
            was_killed = True
    found = load_synthesizer(tmp_path).fingerprint
    assert found in (first.fingerprint, second.fingerprint)
    assert was_killed or found == second.fingerprint
    saving.rewrite_synthesizer(second, tmp_path)
    assert load_synthesizer(tmp_path).fingerprint == second.fingerprint
    assert not (tmp_path / saving.READY).exists()


_other = []


def other():
    if not _other:
        recipe = tiny(steps=1, width=16)
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            _other.append(run(folder, recipe=recipe).synthesizer)
    return _other[0]


@pytest.mark.parametrize("device", ["cuda:7-typo", "gpu", "", "mps:x", "cuda:99"])
def test_devices_that_are_not_there_are_refused(device, tmp_path):
    with pytest.raises(ConfigurationError, match=r"`device` must be one of cpu"):
        checked_device(device)
    with pytest.raises(ConfigurationError, match=r"`device` must be one of cpu"):
        run(tmp_path / "model", device=device)


@pytest.fixture
def no_accelerator():
    """Another test of this process may have one, which fixes the precision."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_another_precision_in_one_process(tmp_path, no_accelerator):
    run(tmp_path / "one", recipe=tiny(steps=1))
    run(tmp_path / "two", recipe=tiny(steps=1), precision="bf16")
    run(tmp_path / "one", recipe=tiny(steps=1))


def test_a_precision_beside_an_accelerator_of_the_program_is_named(tmp_path):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    Accelerator(cpu=True)
    try:
        with pytest.raises(ConfigurationError, match=r"`precision` must be the one of .*process of its own"):
            run(tmp_path / "model", precision="bf16")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_a_device_that_accelerate_chose_for_itself_is_not_the_one_of_the_run(tmp_path, no_accelerator):
    """As where its logger was used on a machine with a GPU: a run on the CPU trained on the GPU, silently."""
    from accelerate.state import AcceleratorState, PartialState

    PartialState()
    PartialState._shared_state["device"] = torch.device("meta")
    for precision in ("no", "bf16"):
        assert run(tmp_path / precision, recipe=tiny(steps=1), precision=precision).finished  # no sums on "meta"
        assert PartialState().device.type == "meta"
        assert not AcceleratorState._shared_state


def test_a_device_beside_an_accelerator_of_the_program_is_named(tmp_path, no_accelerator):
    from accelerate import Accelerator
    from accelerate.state import PartialState

    Accelerator(cpu=True)
    PartialState._shared_state["device"] = torch.device("meta")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"`device` must be the one of .* \(meta\), got 'cpu'.*Leave"):
            run(tmp_path / "model")
    PartialState._shared_state["device"] = torch.device("cpu")
    run(tmp_path / "model", recipe=tiny(steps=1))


@pytest.mark.parametrize("changes", [{"reports": 2}, {"patience": 3}, {"workers": 0}])
def test_what_may_change_on_resume(finished, changes):
    assert run(finished[0], **changes).finished


@pytest.mark.parametrize("name", ["ema_decay", "accumulate", "max_grad_norm", "seed", "augment", "precision"])
def test_what_may_not_change_on_resume(finished, no_accelerator, name):
    value = {"augment": False, "precision": "bf16", "ema_decay": 0.5, "max_grad_norm": 0.5}.get(name, 2)
    with pytest.raises(ConfigurationError, match=rf"differences: {name}: "):
        run(finished[0], **{name: value})


@pytest.mark.parametrize(("make", "what"), [(Path.mkdir, "a folder"), (lambda path: path.symlink_to("/tmp"), "a link")])
def test_a_lock_that_is_no_file_is_named(tmp_path, make, what):
    make(tmp_path / ".fit.lock")
    with (
        pytest.raises(ConfigurationError, match=rf"must be a file, got {what}: it is the lock.*Remove it"),
        locked(tmp_path),
    ):
        pass


def test_files_hold_nothing_of_this_machine(tmp_path):
    data = dataclasses.replace(blobs(), name=str(tmp_path / "home" / "jane.doe" / "slices"))
    run(tmp_path / "model", data=data)
    for name in ("synthesizer.json", "training/run.json"):
        text = (tmp_path / "model" / name).read_text()
        assert "jane.doe" not in text
        assert str(tmp_path) not in text
        assert "slices" in text


def test_a_limit_of_time_shortens_the_schedule_of_the_family(tmp_path, monkeypatch):
    from torchgenaug.recipes import time_limit

    monkeypatch.setattr(time_limit, "measure", lambda step, report: Pace(step=1.0, report=2.0))
    with pytest.warns(UserWarning, match=r"of \d+ steps fit into 0.2 min: the whole schedule is shortened"):
        result = run(tmp_path / "model", recipe=tiny(steps=None), max_minutes=0.2)
    assert result.finished
    assert 1 <= result.steps <= 9
    assert result.synthesizer.trained_on["steps"] == result.steps
    assert result.distance > 0
    assert result.num_judged == 2
    assert list((tmp_path / "model/training/samples").iterdir())
    again = run(tmp_path / "model", recipe=tiny(steps=None), max_minutes=0.2)
    assert again.finished
    assert again.steps == result.steps


def test_steps_of_the_user_are_cut_off_with_a_usable_model_and_go_on(tmp_path, monkeypatch, finished):
    whole = run(tmp_path / "whole", recipe=tiny(steps=4))
    monkeypatch.setattr(loop.TrainingLoop, "_late", lambda self: self.run.step == 2)
    first = run(tmp_path / "model", recipe=tiny(steps=4))
    assert not first.finished
    assert first.signal is None
    assert first.synthesizer.trained_on["steps"] == first.steps == 2
    assert first.distance > 0
    assert (tmp_path / "model/training/samples/step-0000002.png").exists()
    monkeypatch.undo()
    second = run(tmp_path / "model", recipe=tiny(steps=4))
    assert second.finished
    assert second.synthesizer.fingerprint == whole.synthesizer.fingerprint


def test_too_little_time_is_said_before_anything_is_trained(tmp_path, monkeypatch):
    from torchgenaug.recipes import time_limit

    monkeypatch.setattr(time_limit, "measure", lambda step, report: Pace(step=10.0, report=300.0))
    with pytest.raises(ConfigurationError, match=r"`max_minutes` must be at least .*Nothing was trained.*All 2 steps"):
        run(tmp_path / "model", max_minutes=2)
    assert not (tmp_path / "model" / "synthesizer.json").exists()


@pytest.mark.parametrize("step", [0.01, 1.0])
@pytest.mark.parametrize("report", [0.1, 20.0])
@pytest.mark.parametrize("seconds", [60, 1000])
def test_a_planned_run_ends_in_time(step, report, seconds):
    steps, reports = planned(Pace(step, report), 4000, 10, seconds, seconds / 60, shrink=True)
    assert 1 <= steps <= 4000
    assert 1 <= reports <= 10
    assert steps * step + reports * report < seconds


def test_an_interrupted_run_says_by_which_signal_and_has_a_model(tmp_path, monkeypatch):
    train_step = state.TrainingState.train_step

    def watched(self, batches, progress):
        losses = train_step(self, batches, progress)
        os.kill(os.getpid(), signal.SIGTERM)
        return losses

    monkeypatch.setattr(state.TrainingState, "train_step", watched)
    result = run(tmp_path / "model")
    assert not result.finished
    assert result.signal == signal.SIGTERM
    assert load_synthesizer(tmp_path / "model").trained_on["steps"] == 1
