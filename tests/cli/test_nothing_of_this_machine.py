"""What each command writes holds no path of the machine, no name of it and none of its user."""

from __future__ import annotations

import getpass
import gzip
import io
import os
import platform
import socket
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from torchgenaug.cli import app

_FOLDER, _USER, _HOST = "quokka-clinic", "capybara-user", "numbat-host"
_STUDY = """
name = "own"
steps = 1
seeds = 1

[data]
name = "{data}"
per_class = 3
validation = 0.2
test = 0.2

[task]
kind = "classification"
batch_size = 4

[synthetic]
family = "vae"
steps = 1
count = 8
"""


def parts(path):
    """The bytes of a file, and those that it holds compressed."""
    content = path.read_bytes()
    yield content
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield archive.read(name)
    if path.suffix == ".png":
        with Image.open(path) as image:
            yield repr(image.info).encode()
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(path)
        yield repr((table.schema.metadata, table.drop_columns("image").to_pylist())).encode()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_command_writes_where_and_by_whom_it_was_run(tmp_path, monkeypatch):
    """``pytest -m slow tests/cli/test_nothing_of_this_machine.py``: every command, and every file that they leave."""
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, _USER)
    monkeypatch.setattr(socket, "gethostname", lambda: _HOST)
    monkeypatch.setattr(platform, "node", lambda: _HOST)
    assert getpass.getuser() == _USER
    data, out = tmp_path / _FOLDER / "heads", tmp_path / "out"
    chance = np.random.default_rng(0)
    for label, mean in (("cat", 128), ("dog", 90)):
        (data / label).mkdir(parents=True)
        for number in range(12):
            pixels = np.clip(chance.normal(mean, 40, (16, 16)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(data / label / f"{number}.png")
    out.mkdir()
    (tmp_path / "study.toml").write_text(_STUDY.format(data=data))
    shards, model = str(out / "shards"), str(out / "model")
    fit = ["fit", "vae", str(data), "--out", model, "--steps", "2", "--size", "16", "--batch-size", "4"]
    commands = [
        [*fit, "--condition", "label"],
        ["render", model, "--out", shards, "--count", "16"],
        ["preview", shards, "--out", str(out / "preview.png"), "--real", str(data)],
        ["evaluate", shards, "--real", str(data), "--out", str(out / "evaluation")],
        *(
            ["export", shards, "--format", kind, "--out", str(out / kind)]
            for kind in ("nifti", "png", "dicom", "parquet")
        ),
        ["study", str(tmp_path / "study.toml"), "--out", str(out / "study")],
    ]
    for command in commands:
        with warnings.catch_warnings(action="ignore"):  # of tiny sets
            result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, (command, result.output)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) > 60
    words = [word.encode() for word in (_FOLDER, _USER, _HOST, str(tmp_path), os.path.expanduser("~") + "/")]
    for path in files:
        for part in parts(path):
            assert not [word for word in words if word in part], path
