from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import torchgenaug
from torchgenaug import (
    ClassLabels,
    FieldSpec,
    FunctionSynthesizer,
    SyntheticSequence,
    render_shards,
    verify_shards,
)
from torchgenaug.cli import app, main
from torchgenaug.cli.output import counted, open_console, say
from torchgenaug.cli.preview import draw
from torchgenaug.shards.read.reader import ShardSource
from torchgenaug.testing import AnalyticSynthesizer


def run(*arguments, status=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output


def pixels_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture
def shards(tmp_path):
    model = AnalyticSynthesizer((16, 16), num_classes=3)
    model.trained_on = {"samples": ["a"], "class_names": ["normal", "cyst", "stone"]}
    sequence = SyntheticSequence(model, ClassLabels(3))
    render_shards(sequence, tmp_path / "shards", 12, batch_size=4, shard_size=4, progress=False)
    return tmp_path / "shards"


def test_version():
    assert run("--version") == f"torchgenaug {torchgenaug.__version__}\n"


@pytest.mark.parametrize("arguments", [("-h",), ("render", "-h"), ("inspect", "-h")])
def test_short_help(arguments):
    assert "--help" in run(*arguments)


def test_completion_can_be_installed():
    assert "--install-completion" in run("--help")


def test_misspelt_names_are_suggested(monkeypatch, capsys, tmp_path):
    assert "'render'" in run("redner", status=2)
    assert "--out" in run("render", "x", "--outt", "y", status=2)
    monkeypatch.setattr("sys.argv", ["torchgenaug", "fit", "ddmp", "digits", "--out", str(tmp_path / "new")])
    with pytest.raises(SystemExit):
        main()
    assert "Did you mean 'ddpm'?" in capsys.readouterr().err


def test_json_of_inspect_and_verify(shards):
    facts = json.loads(run("inspect", shards, "--json"))
    assert facts["complete"]
    assert facts["manifest"] == json.loads((shards / "manifest.json").read_text())
    report = json.loads(run("verify", shards, "--json"))
    assert report["ok"]
    assert report["bytes"] == facts["bytes"]
    next(shards.glob("shard-00001.*")).unlink()
    assert json.loads(run("verify", shards, "--json", status=1))["bad_ids"] == [[4, 7]]
    assert not json.loads(run("inspect", shards, "--json"))["complete"]


def called(monkeypatch, capsys, *arguments):
    """What the command writes to both outputs, and its status."""
    monkeypatch.setattr("sys.argv", ["torchgenaug", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return (*capsys.readouterr(), end.value.code or 0)


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_failure_leaves_the_output_of_json_empty(command, monkeypatch, capsys, tmp_path):
    out, err, status = called(monkeypatch, capsys, command, tmp_path / "nothing", "--json")
    assert (out, status) == ("", 1)
    assert "which does not exist" in err


def test_usage_is_not_wrapped_without_a_terminal(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLUMNS", "40")
    name = f"--{'long' * 40}"
    out, err, status = called(monkeypatch, capsys, "verify", tmp_path, name)
    assert (out, status) == ("", 2)
    assert f"Error: No such option: {name}" in err
    assert "Usage: torchgenaug verify" in err


def test_completion_names_the_command_under_python_m(monkeypatch, capsys):
    monkeypatch.setenv("_TORCHGENAUG_COMPLETE", "source_bash")
    out, _, status = called(monkeypatch, capsys)
    assert status == 0
    assert out.rstrip().endswith("torchgenaug")
    assert "_TORCHGENAUG_COMPLETE=complete_bash" in out


def test_what_looks_like_an_emoji_stays(capsys):
    say("/data/:cat:/[red]x[/red]")
    open_console().print("/data/:cat:", markup=False)
    assert capsys.readouterr().out == "/data/:cat:/[red]x[/red]\n/data/:cat:\n"


def test_json_of_the_families():
    families = json.loads(run("fit", "list", "--json"))
    assert families["ddpm"]["dims"] == [2, 3]
    assert "label" in families["ddpm"]["conditions"]


def test_settings_are_listed_for_one_family():
    everything, one = run("fit", "list"), run("fit", "list", "stylegan2")
    assert "--set" not in everything
    assert "Settings of a family: torchgenaug fit list NAME" in everything
    assert "--set path_length=2.0: " in one
    assert "dcgan: " not in one


def test_inspect_and_verify_name_the_same_next_step(shards):
    next(shards.glob("shard-00001.*")).unlink()
    step = verify_shards(shards).next_step
    assert "--repair" not in step
    assert step in run("inspect", shards)
    assert step in run("verify", shards, status=1)


def test_long_paths_are_not_broken_without_a_terminal(tmp_path):
    folder = tmp_path / ("a-long-name-" * 12) / ("another-long-name-" * 8)
    folder.parent.mkdir(parents=True)
    render_shards(SyntheticSequence(AnalyticSynthesizer((8, 8))), folder, 1, batch_size=1, shard_size=1, progress=False)
    for command in ("inspect", "verify", "preview"):
        options = ("--out", folder / "sheet.png") if command == "preview" else ()
        assert str(folder) in run(command, folder, *options)
    output = run("inspect", folder)
    assert "1 sample, 1 of 1 shard there" in output
    assert "1 thread\n" in output
    assert "1 sample in 1 shard," in run("verify", folder)


def test_counted():
    assert [counted(number, "shard") for number in (0, 1, 1200)] == ["0 shards", "1 shard", "1,200 shards"]


def test_classes_are_named(shards, monkeypatch):
    assert "0 normal, 1 cyst, 2 stone" in run("inspect", shards)
    drawn = []
    monkeypatch.setattr("torchgenaug.pictures._caption", lambda row, fields, names: drawn.append((row, names)) or "")
    draw(ShardSource(shards), shards / "sheet.png", 12)
    labels = [int(row["label"]) for row, _ in drawn]
    assert labels == sorted(labels)
    assert set(labels) == {0, 1, 2}
    assert drawn[0][1] == ("normal", "cyst", "stone")


def test_brightness_is_by_percentiles(tmp_path):
    """Images that use a small part of their range are not grey on grey."""

    def dim(seeds, conditions):
        ramp = torch.linspace(0, 100, 256).reshape(1, 1, 16, 16)
        return {"image": ramp.repeat(len(seeds), 1, 1, 1) + torch.tensor([s % 7 for s in seeds]).view(-1, 1, 1, 1)}

    fields = {"image": FieldSpec((1, 16, 16), value_range=(-1000, 3000))}
    sequence = SyntheticSequence(FunctionSynthesizer(dim, fields, fingerprint="dim"))
    source = render_shards(sequence, tmp_path / "shards", 4, batch_size=4, shard_size=4, progress=False)
    draw(source, tmp_path / "sheet.png", 4)
    assert pixels_of(tmp_path / "sheet.png").max() > 250


def test_real_images_stand_next_to_synthetic_ones(shards, tmp_path):
    for name in ("cyst", "normal", "stone"):
        (tmp_path / "real" / name).mkdir(parents=True)
        for k in range(3):
            noise = np.random.default_rng(k).integers(0, 255, (16, 16), np.uint8)
            Image.fromarray(noise).save(tmp_path / "real" / name / f"{k}.png")
    run("preview", shards, "--out", tmp_path / "alone.png", "--count", 6)
    run("preview", shards, "--out", tmp_path / "pairs.png", "--count", 6, "--real", tmp_path / "real")
    alone, pairs = pixels_of(tmp_path / "alone.png"), pixels_of(tmp_path / "pairs.png")
    assert pairs.size > 1.2 * alone.size
    frames = {tuple(pixel) for pixel in pairs.reshape(-1, 3)}
    assert {(86, 180, 233), (230, 159, 0)} <= frames


def test_what_a_terminal_would_obey_is_written_out(capsys):
    """A folder of a class, a file or a text in a model may have such a name."""
    say("a\x1b[31mred", "\x1b]0;title\x07", "Ä 中 [bold]", "two\nlines\r")
    assert capsys.readouterr().out == "a\\x1b[31mred\n\\x1b]0;title\\x07\nÄ 中 [bold]\ntwo\nlines\\r\n"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [("ENOSPC", "Free some space, then run the same command again"), ("EFBIG", "ulimit -f"), ("EACCES", "may write")],
)
def test_a_full_disk_is_one_line(monkeypatch, capsys, number, remedy):
    code = getattr(errno, number)

    def fail(*arguments, **options):
        raise OSError(code, os.strerror(code), "model/training/checkpoint.pt")

    monkeypatch.setattr("torchgenaug.cli._run", fail)
    with pytest.raises(SystemExit) as caught:
        main()
    text = capsys.readouterr().err
    assert caught.value.code == 1
    assert f"model/training/checkpoint.pt: {os.strerror(code)}. What was complete stays." in text
    assert remedy in text
    code = errno.EIO
    with pytest.raises(OSError, match="checkpoint"):
        main()
