"""The data card of a render: a head that YAML reads, true figures, no names, and a user's own text is left alone."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from torchgenaug import ClassLabels, ShardSource, SyntheticSequence, render_shards, verify_shards
from torchgenaug.export import export_samples
from torchgenaug.shards.card import CARD_NAME, MARK, about_images, card_text, put_evaluation, read_card, write_card
from torchgenaug.testing import AnalyticSynthesizer

yaml = pytest.importorskip("yaml")


def rendered(folder, record=None):
    synthesizer = AnalyticSynthesizer((8, 8))
    synthesizer.trained_on = record
    return render_shards(SyntheticSequence(synthesizer), folder, 6, progress=False)


def test_the_head_and_the_figures(tmp_path):
    source = rendered(tmp_path / "s", {"samples": ["anna.png", "bert.png"], "patients": ["Anna"]})
    assert write_card(source.path, source.manifest)
    text = (source.path / CARD_NAME).read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["size_categories"] == ["n<1K"]
    assert head["license"] == "unknown"
    assert "synthetic" in head["tags"]
    assert "6 samples" in text
    assert source.manifest.synthesizer in text
    assert "2 samples, 1 patients" in text
    assert "nna" not in text
    assert "Nobody knows" not in text


def test_unknown_origin_is_a_warning(tmp_path):
    assert "Nobody knows what their generator was trained on" in card_text(rendered(tmp_path / "s").manifest)


def test_a_users_own_card_stays(tmp_path):
    source = rendered(tmp_path / "s")
    path = source.path / CARD_NAME
    assert write_card(source.path, source.manifest)
    assert write_card(source.path, source.manifest)
    path.write_text(path.read_text(encoding="utf-8").replace(MARK, "") + "Mine.\n", encoding="utf-8")
    assert not write_card(source.path, source.manifest)
    assert path.read_text(encoding="utf-8").endswith("Mine.\n")


def test_a_card_does_not_disturb_the_folder(tmp_path):
    source = rendered(tmp_path / "s")
    write_card(source.path, source.manifest)
    assert verify_shards(source.path).ok
    assert len(ShardSource(source.path)) == 6


@pytest.mark.parametrize("there", ["pipe", "folder", "device", "dangling link", "unreadable"])
def test_what_is_no_card_is_neither_read_nor_written(tmp_path, there, monkeypatch):
    """A named pipe would be waited for, and a link followed to wherever it leads."""
    source = rendered(tmp_path / "shards")
    card = source.path / "README.md"
    match there:
        case "pipe":
            os.mkfifo(card)
        case "folder":
            card.mkdir()
        case "device":
            card.symlink_to("/dev/zero")
        case "dangling link":
            card.symlink_to(tmp_path / "elsewhere")
        case "unreadable":
            card.write_text(MARK)

            def refuse(path, *arguments, **options):
                raise PermissionError(13, "Permission denied", str(path))

            monkeypatch.setattr(Path, "read_text", refuse)
    assert not write_card(source.path, source.manifest)
    assert not (tmp_path / "elsewhere").exists()
    assert not list(source.path.glob(".torchgenaug-*"))


def test_a_card_that_only_its_owner_may_replace_stays(tmp_path, monkeypatch):
    source = rendered(tmp_path / "shards")
    assert write_card(source.path, source.manifest)

    def refuse(*places):
        raise PermissionError(1, "Operation not permitted", str(places[1]))

    monkeypatch.setattr(os, "replace", refuse)  # as in a folder with the sticky bit
    assert not write_card(source.path, source.manifest)
    assert not list(source.path.glob(".torchgenaug-*"))


def _report(verdict):
    measure = {"name": "KID[mine|own]", "value": 0.5, "low": None, "high": 1.0, "floor": None, "n": 60}
    measure["better"] = "lower"
    return {
        "verdict": verdict,
        "reasons": ["Because."],
        "counts": {"real": 60, "held_out": 99},
        "measures": {"KID[mine|own]": measure},
        "copies": {"found": 3, "expected_by_chance": 0.6},
        "duplicates": {"share": 0.01},
    }


def test_measures_stand_in_the_card_as_long_as_they_are_of_these_images(tmp_path):
    source = rendered(tmp_path / "shards")
    about = about_images(source.fingerprint, len(source))
    assert not put_evaluation(source.path, _report("use"), about)  # there is no card
    write_card(source.path, source.manifest)
    plain = read_card(source.path)
    assert "They were not evaluated" in plain
    for verdict in ("use", "caution"):
        assert put_evaluation(source.path, _report(verdict), about)
    write_card(source.path, source.manifest, "Filter: 3 of 6 samples were kept")
    card = read_card(source.path)
    assert "**caution** (images: 60 real, 99 held-out)" in card
    assert r"| KID[mine\|own] | 0.5 | – to 1 | – | 60 | lower |" in card
    assert card.count("## Evaluation") == 1
    assert "not evaluated" not in card
    assert "Filter: 3 of 6" in card
    write_card(source.path, dataclasses.replace(source.manifest, count=7))  # extended
    assert "## Evaluation" not in read_card(source.path)
    put_evaluation(source.path, _report("use"), "others, 6 images")
    write_card(source.path, source.manifest)
    assert read_card(source.path) == plain
    (source.path / CARD_NAME).write_text("My own.")
    assert not put_evaluation(source.path, _report("use"), about)


def test_an_export_takes_the_measures_along(tmp_path):
    source = rendered(tmp_path / "shards")
    write_card(source.path, source.manifest)
    put_evaluation(source.path, _report("caution"), about_images(source.fingerprint, len(source)))
    card = read_card(export_samples(source, tmp_path / "files", "png"))
    assert "**caution**" in card
    assert "manifest.json" not in card  # it does not travel along


def test_the_numbers_of_classes_are_explained(tmp_path):
    synthesizer = AnalyticSynthesizer((8, 8), num_classes=2)
    synthesizer.trained_on = {"samples": ["a"], "class_names": ["healthy", "very\nill"]}
    source = render_shards(SyntheticSequence(synthesizer, ClassLabels(2)), tmp_path / "s", 6, progress=False)
    line = "\nClasses of `label`: 0 healthy, 1 very ill.\n\n## Origin"
    assert line in card_text(source.manifest)
    assert line in read_card(export_samples(source, tmp_path / "files", "png"))
    assert "Classes" not in card_text(rendered(tmp_path / "t", synthesizer.trained_on).manifest)
