from __future__ import annotations

import os

import pytest

from torchgenaug.whole_files import write_whole


def test_what_is_there_stays_until_all_is_written(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    assert write_whole(path, b"first") == path
    real = os.replace

    def stopped(draft, place):
        assert path.read_bytes() == b"first"
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"second")
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]
    monkeypatch.setattr(os, "replace", real)
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"


def test_another_users_file_is_replaced_and_not_opened(tmp_path):
    path = tmp_path / "preview.png"
    path.write_bytes(b"theirs")
    inode = path.stat().st_ino
    write_whole(path, b"ours")
    assert path.stat().st_ino != inode


def test_links_are_followed_and_devices_written_to(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for content in (b"first", b"second"):
        write_whole(tmp_path / "link", content)
        assert (tmp_path / "target").read_bytes() == content
    assert (tmp_path / "link").is_symlink()
    write_whole("/dev/null", b"nothing")
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, b"")
