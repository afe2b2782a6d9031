from __future__ import annotations

import hashlib
import hmac
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from torchgenaug.errors import ConfigurationError
from torchgenaug.pseudonyms import pseudonym, secret, secret_file


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
