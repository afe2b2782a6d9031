"""Paths as launchers and people write them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from diffusers import DDIMScheduler
from typer.testing import CliRunner

from tests.synthesizers.tiny_nets import unet
from torchgenaug import (
    DiffusersSynthesizer,
    ShardSource,
    SyntheticSequence,
    load_synthesizer,
    render_shards,
    save_synthesizer,
)
from torchgenaug.cli import app
from torchgenaug.errors import ConfigurationError
from torchgenaug.local_paths import check_place, folder_of, local_path, make_folder
from torchgenaug.recipes.data.load import load_data
from torchgenaug.shards import verify_shards
from torchgenaug.testing import AnalyticSynthesizer


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("written", ["a/b", "./a/b", "~/a/b", "$SCRATCH/a/b", "${SCRATCH}/a/b", Path("a") / "b"])
def test_ways_to_write_a_path(home, written):
    assert local_path(written) == home / "a" / "b"


def test_what_exists_is_meant(home):
    (home / "~").mkdir()
    (home / "$SCRATCH").mkdir()
    assert local_path("~") == home / "~"
    assert local_path("$SCRATCH") == home / "$SCRATCH"
    assert local_path("$NOBODY/a") == home / "$NOBODY" / "a"


def test_a_file_in_place_of_its_folder(home):
    (home / "a").mkdir()
    assert folder_of("a/manifest.json", ("manifest.json",)) == home / "a" / "manifest.json"  # is not there
    (home / "a" / "manifest.json").write_text("{}")
    assert folder_of("a/manifest.json", ("manifest.json",)) == home / "a"


def test_shards_and_models(home, monkeypatch):
    """From the home, by a variable, by a file of theirs, and after the working directory changed."""
    synthesizer = AnalyticSynthesizer((8, 8))
    render_shards(SyntheticSequence(synthesizer), "~/shards", count=8, batch_size=4, shard_size=4)
    assert not (home / "~").exists()
    expected = ShardSource(home / "shards").read(np.arange(8))["image"]
    source = ShardSource("shards")
    for other in (ShardSource("$SCRATCH/shards"), ShardSource("shards/manifest.json")):
        assert len(other) == 8
    assert verify_shards("~/shards/manifest.json").ok
    (home / "run").mkdir()
    monkeypatch.chdir(home / "run")
    assert source.read(np.arange(8))["image"].equal(expected)
    assert pickle.loads(pickle.dumps(source)).read(np.arange(8))["image"].equal(expected)


def test_models(home):
    made = DiffusersSynthesizer(unet(), DDIMScheduler(num_train_timesteps=10), value_range=(0, 1), steps=1)
    save_synthesizer(made, "~/model")
    fingerprint = load_synthesizer(home / "model").fingerprint
    for written in ("~/model", "model/synthesizer.json", "$SCRATCH/model"):
        assert load_synthesizer(written).fingerprint == fingerprint


def test_paths_of_windows(home):
    (home / "data" / "set").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"write .*data/set"):
        load_data("data\\set")
    with pytest.raises(ConfigurationError, match="There is no"):
        load_data("C:\\data\\set")


def test_what_lies_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent" / "folder")
    for wrong in ("file", "file/sub/deeper", "circle", "nowhere"):
        for call in (check_place, make_folder):
            with pytest.raises(ConfigurationError, match=r"`out` must be a folder.* is no folder"):
                call(tmp_path / wrong)
    with pytest.raises(ConfigurationError, match="File name too long"):
        make_folder(tmp_path / ("n" * 300))
    check_place(tmp_path / "new" / "deeper")
    assert not (tmp_path / "new").exists()
    assert make_folder(tmp_path / "new" / "deeper").is_dir()


def test_commands_name_it_before_they_work(tmp_path):
    """An evaluation takes minutes before it writes; nothing is read here."""
    (tmp_path / "file").touch()
    (tmp_path / "own.toml").touch()
    out = ["--out", str(tmp_path / "file")]
    for command in (["evaluate", "absent", "--real", "absent", *out], ["study", str(tmp_path / "own.toml"), *out]):
        assert isinstance(CliRunner().invoke(app, command).exception, ConfigurationError)
        assert "is no folder" in str(CliRunner().invoke(app, command).exception)
