"""The data card of a render: a head that YAML reads, true figures, no names, and a user's own text is left alone."""

from __future__ import annotations

import pytest

from torchgenaug import ShardSource, SyntheticSequence, render_shards, verify_shards
from torchgenaug.shards.card import CARD_NAME, MARK, card_text, write_card
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
