"""``fit --split patients --anonymous``: what is written, and who reads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from torchgenaug import load_synthesizer
from torchgenaug.cli import app
from torchgenaug.cli.evaluate_data import load_real
from torchgenaug.study.config import load_study
from torchgenaug.trust import check_leaks

STUDY = """
steps = 2
seeds = 3
[data]
name = "scans"
split = "model"
[synthetic]
model = "model"
count = 4
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Twelve patients in two classes, two images each, and a model of 9 of them."""
    folder = tmp_path_factory.mktemp("split")
    draw = np.random.default_rng(0)
    for patient in range(12):
        place = folder / "scans" / ("ill" if patient % 2 else "healthy") / f"sub-{patient:02d}MILLER"
        place.mkdir(parents=True)
        for number in range(2):
            Image.fromarray(draw.integers(0, 255, (16, 16), np.uint8)).save(place / f"{number}.png")
    command = ["fit", "vae", str(folder / "scans"), "--split", "patients", "--held-out", "0.25", "--anonymous",
               "--steps", "2", "--width", "8", "--batch-size", "4", "--reports", "1", "--device", "cpu",
               "--out", str(folder / "model")]  # fmt: skip
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "9 patients to train on, 3 held out." in result.output
    return folder


def test_nothing_that_is_written_names_a_patient(home):
    texts = [path for path in (home / "model").rglob("*") if path.is_file() and path.suffix in (".json", ".md", ".csv")]
    assert {"README.md", "split.json", "synthesizer.json"} <= {path.name for path in texts}
    assert not [path for path in texts if "MILLER" in path.read_text() or "sub-" in path.read_text()]


def test_the_record_is_that_of_the_training_patients(home):
    record = load_synthesizer(home / "model").trained_on
    assert (len(record["samples"]), len(record["patients"])) == (18, 9)
    split = json.loads((home / "model" / "split.json").read_text())
    assert sorted(split["train"]["samples"]) == sorted(record["samples"])


def test_evaluate_reads_the_split(home):
    model = load_synthesizer(home / "model")
    train, others = load_real(str(home / "scans"), None, model, size=None, model=home / "model")
    assert (len(train), len(others)) == (18, 6)
    assert not set(train.patients) & set(others.patients)
    assert sorted(others.labels().tolist()) == [0, 0, 0, 0, 1, 1] or sorted(others.labels()) == [0, 0, 1, 1, 1, 1]
    # Without the split, what the record does not name: the same images.
    assert load_real(str(home / "scans"), None, model, size=None)[1].ids == others.ids


def test_leaks_are_found_behind_pseudonyms(home):
    train, others = load_real(str(home / "scans"), None, load_synthesizer(home / "model"), size=None)
    report = check_leaks(load_synthesizer(home / "model"), {"clean": others, "dirty": train})
    assert {leak.held_out for leak in report.leaks if leak.kind in ("id", "patient")} == {"dirty"}


def test_a_study_tests_on_the_held_out_patients(home):
    (home / "study.toml").write_text(STUDY)
    study = load_study(home / "study.toml", home / "study")
    train, others = load_real(str(home / "scans"), None, load_synthesizer(home / "model"), size=None)
    (split,) = study.splits
    assert len(split.test) == len(others)
    assert len(split.train) + len(split.validation) == len(train)


def test_the_card_states_the_model_and_stays_once_it_is_the_users(home):
    card = (home / "model" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "library_name: torchgenaug" in card
    assert load_synthesizer(home / "model").fingerprint in card
    assert "18 samples, 9 patients" in card
    assert "count as copies" in card


def test_an_unknown_fraction_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["fit", "vae", "digits", "--held-out", "0.2", "--out", str(Path(tmp_path, "m"))])
    assert result.exit_code == 2
    assert "needs --split patients" in result.output
