"""Commands that read real data again do so as `fit` did."""

from __future__ import annotations

import sys
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from torchgenaug import FieldSpec, FunctionSynthesizer, SyntheticSequence, render_shards
from torchgenaug.cli import app
from torchgenaug.cli.evaluate_data import load_real
from torchgenaug.cli.filters import without_copies
from torchgenaug.cli.real_data import load_again, reading_of
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import FitOptions, Options, fit
from torchgenaug.recipes.data.load import load_data
from torchgenaug.recipes.data.patient_split import anonymised
from torchgenaug.study.entries import read_entries
from torchgenaug.study.sections import DataSection

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """Images whose masks have a name that nobody knows: without options the folder is refused."""
    for k in range(24):
        draw = np.random.default_rng(k)
        masks = (np.tri(16, k=k % 5) * 255).astype(np.uint8)
        for part, array in (("scans", draw.integers(60, 190, (16, 16), dtype=np.uint8)), ("outlines", masks)):
            (tmp_path / "set" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "set" / part / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="few values"):
        load_data("set")
    return load_data("set", images="scans/*.png", masks="outlines/*.png")


def model(record):
    fields = {"image": FieldSpec((1, 16, 16), value_range=(0, 1))}
    made = FunctionSynthesizer(noise, fields, fingerprint="noise")
    made.trained_on = record
    return made


def noise(seeds, conditions):
    return {"image": torch.stack([torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(s)) for s in seeds])}


def record_of(data):
    return {"data": "set", "samples": list(data.ids[:12]), "patients": [], "reading": dict(data.reading)}


@pytest.mark.filterwarnings("ignore:At step")
def test_a_model_knows_how_its_data_were_read(scans, tmp_path):
    options = Options(steps=1, batch_size=2, width=8, sampling_steps=1)
    made = fit("ddpm", scans, tmp_path / "model", recipe=options, options=FitOptions(reports=1), device="cpu")
    assert made.synthesizer.trained_on["reading"] == {"images": "scans/*.png", "masks": "outlines/*.png"}
    assert scans.select([0, 1]).reading == scans.reading
    assert anonymised(scans).reading == {}


def test_commands_read_as_fit_did(scans, tmp_path, capsys):
    made = model(record_of(scans))
    train, others = load_real("set", None, made, size=16)
    assert (len(train), len(others)) == (12, 12)
    assert "mask" in train.fields
    assert "read as the model's training data were: --images 'scans/*.png'" in capsys.readouterr().out
    _, line = without_copies(SyntheticSequence(made), "set")
    assert "Copies of 12 training images" in line
    render_shards(SyntheticSequence(made), tmp_path / "shards", count=4, batch_size=4)
    result = CliRunner().invoke(app, ["preview", "shards", "--real", "set", "--count", "2"])
    assert result.exit_code == 0, result.output


def test_what_the_user_states_counts_first(scans, capsys):
    data = load_again("set", record_of(scans), 16, {"masks": "none"})
    assert "mask" not in data.fields
    assert "--masks" not in capsys.readouterr().out


READING = ("--images", "scans/*.png", "--masks", "none")
SCREENED = {
    "preview": ("preview", "shards", "--real", "set", "--count", "2"),
    "render": ("render", "noises_of_scans:noise", "--out", "screened", "--count", "4", "--no-copies-of", "set"),
}


@pytest.mark.parametrize("command", SCREENED)
def test_options_state_how_data_are_read_without_a_record(scans, tmp_path, monkeypatch, command):
    """The advice of the refusal, executed."""
    record = {"samples": list(scans.ids[:12]), "patients": []}  # no name, no options
    monkeypatch.setitem(sys.modules, "noises_of_scans", SimpleNamespace(noise=lambda: model(record)))
    render_shards(SyntheticSequence(model(record)), tmp_path / "shards", count=8, batch_size=4)
    with pytest.raises(ConfigurationError, match=r"--images 'scans/\*\.png' --masks none"):
        CliRunner().invoke(app, [*SCREENED[command]], catch_exceptions=False)
    result = CliRunner().invoke(app, [*SCREENED[command], *READING], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_a_study_reads_with_the_same_options(scans, tmp_path):
    text = "[data]\nname = 'set'\nimages = 'scans/*.png'\nmasks = 'outlines/*.png'\nsize = 8\n"
    values = tomllib.loads(text)["data"]
    data = DataSection(**read_entries(values, DataSection, "[data]")).load(tmp_path)
    assert data.image_shape == (1, 8, 8)
    assert "mask" in data.fields


def test_options_of_reading_need_something_to_read(scans, tmp_path):
    for command, missing in (("preview", "--real"), ("render", "--no-copies-of")):
        arguments = list(SCREENED[command])
        place = arguments.index(missing)
        result = CliRunner().invoke(app, [*arguments[:place], *arguments[place + 2 :], *READING])
        assert result.exit_code == 2
        assert missing in result.output


@pytest.mark.parametrize(
    "reading",
    ["text", ["images"], {"images": 3}, {"images": "*" * 40}, {"images": "a" * 500}, {"size": 3}, {"spacing": ["1"]}],
)
def test_records_of_strangers_are_not_trusted(reading):
    assert reading_of({"data": "set", "reading": reading}, "here/set/") == {}


def test_records_of_other_data_do_not_count():
    assert reading_of({"data": "set", "reading": {"images": "*"}}, "here/other") == {}
    assert reading_of({"data": "set", "reading": {"images": "*", "volumes": True}}, "set") == {
        "images": "*",
        "volumes": True,
    }


def test_a_table_elsewhere_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    for k in range(4):
        draw = np.random.default_rng(k).integers(0, 255, (16, 16), dtype=np.uint8)
        Image.fromarray(draw).save(tmp_path / "set" / f"{k}.png")
    data = load_again("set", {"data": "set", "reading": {"table": "train.csv:class"}}, 16)
    assert data.num_classes is None
    assert "--table 'none'" in capsys.readouterr().out
