from __future__ import annotations

import hashlib
import hmac
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from torchgenaug.bare_names import bare_name
from torchgenaug.cli.real_data import reading_of
from torchgenaug.errors import ConfigurationError
from torchgenaug.pseudonyms import anonymous, pseudonym, secret, secret_file
from torchgenaug.recipes.ancestry import Ancestor
from torchgenaug.recipes.data.patient_split import anonymised
from torchgenaug.recipes.data.training_data import TensorSamples, TrainingData
from torchgenaug.testing import AnalyticSynthesizer
from torchgenaug.trust import check_leaks
from torchgenaug.types import FieldSpec


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHGENAUG_SECRET_FILE", str(tmp_path / "keys" / "secret"))
    return tmp_path / "keys" / "secret"


def test_the_same_patient_has_the_same_pseudonym_under_one_secret_only(place, tmp_path, monkeypatch):
    first = pseudonym("12345")
    assert pseudonym("12345") == first
    assert pseudonym("12346") != first
    monkeypatch.setenv("TORCHGENAUG_SECRET_FILE", str(tmp_path / "other"))
    assert pseudonym("12345") != first


def test_no_search_without_the_secret_finds_the_patient(place):
    found = pseudonym("12345")
    keys = (b"", b"torchgenaug", str(place).encode())
    tried = {hashlib.sha256(str(number).encode()).hexdigest()[: len(found)] for number in range(20_000)}
    tried |= {hmac.new(key, b"12345", hashlib.sha256).hexdigest()[: len(found)] for key in keys}
    assert found not in tried
    assert hmac.new(secret(), b"12345", hashlib.sha256).hexdigest().startswith(found)  # but its holder can


def test_the_file_is_the_users_alone(place):
    pseudonym("1")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert [path.name for path in place.parent.iterdir()] == ["secret"]


def test_several_processes_at_first_use_share_one_secret(place):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: pseudonym("1"), range(32)))) == 1


@pytest.mark.parametrize("content", ["", "abc", "not hexadecimal", "00" * 31])
def test_files_without_a_secret_are_named(place, content):
    place.parent.mkdir()
    place.write_text(content)
    with pytest.raises(ConfigurationError, match=r"64 hexadecimal digits.*TORCHGENAUG_SECRET_FILE=/path"):
        pseudonym("1")


def test_places_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHGENAUG_SECRET_FILE", str(tmp_path / "file" / "secret"))
    with pytest.raises(ConfigurationError, match="No patient was named"):
        pseudonym("1")


def test_the_usual_place(monkeypatch, tmp_path):
    monkeypatch.delenv("TORCHGENAUG_SECRET_FILE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert secret_file() == tmp_path / "torchgenaug" / "secret"


def test_a_file_name_that_is_no_utf8_has_a_pseudonym(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHGENAUG_SECRET_FILE", str(tmp_path / "secret"))
    names = [os.fsdecode(b"patient-\xff.png"), os.fsdecode(b"patient-\xfe.png")]
    assert len({pseudonym(name) for name in names}) == 2


def test_a_pseudonym_has_no_pseudonym(place):
    assert anonymous(anonymous("MILLER")) == anonymous("MILLER") != anonymous("anonymous-MILLER")


def test_neither_folder_nor_remarks_name_anybody(place, tmp_path):
    folder = tmp_path / "MILLER_JANE"
    folder.mkdir()
    ids = ("ill/sub-MILLER/MILLER_1.png", "ill/sub-SMITH/2.png")
    data = TrainingData(
        TensorSamples({"image": torch.rand(2, 1, 8, 8)}),
        {"image": FieldSpec((1, 8, 8), value_range=(0, 1))},
        ids,
        str(folder),
        ("sub-MILLER", "sub-SMITH"),
        ("healthy", "ill"),
        (
            "Folders are patients (sub-MILLER, sub-SMITH).",
            "Subfolders are classes: ill 2.",
            "Odd: MILLER_1.png, still.",
        ),
    )
    hidden = anonymised(data)
    assert "MILLER" not in repr(hidden) + str(hidden.remarks)
    assert "SMITH" not in str(hidden.remarks)
    assert hidden.remarks[1] == data.remarks[1]
    assert hidden.remarks[2].endswith(", still.")
    record = {"data": bare_name(hidden.name), "reading": {"volumes": True}}
    assert reading_of(record, str(folder)) == {"volumes": True}
    assert not reading_of(record, str(tmp_path / "SMITH_JOHN"))


def test_what_a_start_was_trained_on_is_hidden_where_the_data_are(place):
    start = Ancestor("start", "f" * 64, {"samples": ["a.png", "b.png"], "patients": ["MILLER"], "data": "MILLER_JANE"})
    own = {"samples": [anonymous("b.png"), anonymous("c.png")], "patients": [anonymous("SMITH")]}
    record = start.trained_on_too(own)
    assert record["samples"] == [anonymous(each) for each in ("b.png", "c.png", "a.png")]
    assert record["patients"] == [anonymous("SMITH"), anonymous("MILLER")]
    assert "MILLER" not in str(record)
    # A start whose data are anonymous saw the samples of the same names.
    start = Ancestor("start", "f" * 64, {"samples": own["samples"], "patients": []})
    assert start.trained_on_too({"samples": ["b.png"], "patients": []})["samples"] == ["b.png", anonymous("c.png")]


def test_reports_of_an_anonymous_model_name_nobody(place):
    model = AnalyticSynthesizer((8, 8))
    model.trained_on = {"samples": [anonymous("MILLER.png")], "patients": [anonymous("SMITH")]}
    test = [{"image": torch.rand(1, 8, 8), "id": f"{name}.png", "patient": name} for name in ("MILLER", "SMITH", "ROE")]
    report = check_leaks(model, {"test": test})
    expected = [(0, anonymous("MILLER.png")), (1, anonymous("SMITH"))]
    assert [(leak.index, leak.seen_as) for leak in report.leaks] == expected
