from __future__ import annotations

import functools
import http.server
import os
import pickle
import subprocess
import threading
import traceback
from pathlib import Path

import fsspec
import h5py
import numpy as np
import pytest
import torch
from shards_helpers import contents, render, shard, small_sequence

from tests import interpreter
from torchgenaug import ShardSource, render_shards, verify_shards
from torchgenaug.errors import (
    ConfigurationError,
    MissingExtraError,
    ShardCorruptError,
    ShardError,
    ShardIncompleteError,
    ShardNotFoundError,
    ShardVersionError,
)
from torchgenaug.shards import open_remote, remote
from torchgenaug.shards.structure import checksums
from torchgenaug.testing import SourceConformance


def empty(memory):
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def bucket(folder):
    """The finished folder in fsspec's memory, as on object storage."""
    memory = fsspec.filesystem("memory")
    empty(memory)
    memory.put(str(folder), "/bucket/shards", recursive=True)
    yield memory
    empty(memory)


def cached(path):
    """The one folder that is in a cache."""
    (folder,) = path.iterdir()
    return folder


def noted(bucket, monkeypatch):
    """The paths that are opened from now on."""
    original, opened = type(bucket).open, []

    def noting(self, path, *args, **more):
        opened.append(path)
        return original(self, path, *args, **more)

    monkeypatch.setattr(type(bucket), "open", noting)
    return opened


class TestConformance(SourceConformance):
    @pytest.fixture(autouse=True)
    def remote(self, bucket, tmp_path):
        self.cache = tmp_path / "cache"

    def make(self):
        return open_remote("memory://bucket/shards", cache=self.cache, verify="hash")

    def sequence(self):
        return small_sequence()


def test_files_arrive_as_they_are_and_only_once(bucket, folder, tmp_path, monkeypatch):
    source = open_remote("memory://bucket/shards", cache=tmp_path / "cache")
    assert contents(source.path).items() >= contents(folder).items()
    opened = []
    original = type(bucket).open
    monkeypatch.setattr(
        type(bucket),
        "open",
        lambda self, path, *args, **more: opened.append(path) or original(self, path, *args, **more),
    )
    again = open_remote("memory://bucket/shards/", cache=tmp_path / "other")
    assert len(opened) == 7
    opened.clear()
    assert open_remote("memory://bucket/shards/", cache=tmp_path / "other").path == again.path
    assert [path.rpartition("/")[2] for path in opened] == ["manifest.json"]
    assert torch.equal(again.read(np.arange(22))["image"], source.read(np.arange(22))["image"])


def test_local_paths_and_file_urls(folder, tmp_path):
    for number, url in enumerate((f"file://{folder}", str(folder), f"local://{folder}")):
        assert len(open_remote(url, cache=tmp_path / str(number))) == 22


def test_shard_source_takes_urls(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHGENAUG_CACHE", str(tmp_path / "cache"))
    source = ShardSource("memory://bucket/shards", verify="hash")
    assert source.path == cached(tmp_path / "cache")
    assert source.verify == "hash"
    expected = small_sequence().batch([20, 21])["image"]
    assert torch.equal(source.read(np.array([20, 21]))["image"], expected)


def test_damage_on_the_way_is_found_and_not_kept(bucket, folder, tmp_path):
    name = shard(folder, 3).name
    path = f"/bucket/shards/{name}"
    intact = bucket.cat(path)
    for damage in (intact[:-9], intact + b"x", bytes([intact[0] ^ 1]) + intact[1:], b""):
        bucket.pipe(path, damage)
        with pytest.raises(ShardCorruptError, match=rf"memory://bucket/shards/{name} must have the sha256 of its name"):
            open_remote("memory://bucket/shards", cache=tmp_path / "cache")
        there = cached(tmp_path / "cache")
        assert not [file for file in there.iterdir() if file.name.endswith(".tmp") or file.name == name]
        assert not (there / "manifest.json").exists()
    bucket.pipe(path, intact)
    assert len(open_remote("memory://bucket/shards", cache=tmp_path / "cache")) == 22


def test_an_interrupted_fetch_goes_on(bucket, tmp_path, monkeypatch):
    original, fetched = type(bucket).open, []

    def failing(self, path, *args, **more):
        fetched.append(path)
        if len(fetched) == 4:
            raise ConnectionError("the network is gone")
        return original(self, path, *args, **more)

    monkeypatch.setattr(type(bucket), "open", failing)
    with pytest.raises(ConnectionError):
        open_remote("memory://bucket/shards", cache=tmp_path / "cache")
    assert len(list(cached(tmp_path / "cache").glob("shard-*"))) == 2
    assert len(open_remote("memory://bucket/shards", cache=tmp_path / "cache")) == 22
    assert len([path for path in fetched if path.endswith(".h5")]) == 3 + 4


def test_threads_fetch_once(bucket, tmp_path, monkeypatch):
    original, fetched, results = type(bucket).open, [], []
    monkeypatch.setattr(
        type(bucket),
        "open",
        lambda self, path, *args, **more: fetched.append(path) or original(self, path, *args, **more),
    )

    def work():
        results.append(open_remote("memory://bucket/shards", cache=tmp_path / "cache").path)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [cached(tmp_path / "cache")] * 4
    assert len([path for path in fetched if path.endswith(".h5")]) == 6


def test_processes_may_open_it_at_once(folder, tmp_path):
    code = """
import sys
from torchgenaug.shards import open_remote
print(open_remote(sys.argv[1], cache=sys.argv[2]).path)
"""
    program = ["-c", code, f"file://{folder}", tmp_path / "cache"]
    processes = [interpreter.start(program, stdout=subprocess.PIPE) for _ in range(2)]
    paths = {process.communicate(timeout=300)[0].strip() for process in processes}
    assert paths == {str(cached(tmp_path / "cache"))}
    assert contents(cached(tmp_path / "cache")).items() >= contents(folder).items()


def test_a_render_in_the_same_place_has_a_cache_of_its_own(bucket, tmp_path):
    first = open_remote("memory://bucket/shards", cache=tmp_path / "cache")
    render(tmp_path / "new", sequence=small_sequence(seed=6))
    empty(bucket)
    bucket.put(str(tmp_path / "new"), "/bucket/shards", recursive=True)
    second = open_remote("memory://bucket/shards", cache=tmp_path / "cache")
    assert first.path != second.path
    assert second.fingerprint == small_sequence(seed=6).fingerprint
    assert len(first.read(np.arange(22))["label"]) == 22


def test_a_complete_cache_may_be_read_only(bucket, tmp_path):
    source = open_remote("memory://bucket/shards", cache=tmp_path / "cache")
    before = contents(source.path)
    source.path.chmod(0o555)
    try:
        open_remote("memory://bucket/shards", cache=tmp_path / "cache").read(np.arange(22))
    finally:
        source.path.chmod(0o755)
    assert contents(source.path) == before


def test_incomplete_absent_newer_and_damaged(bucket, folder, tmp_path):
    def fetch():
        return open_remote("memory://bucket/shards", cache=tmp_path / "cache")

    manifest = bucket.cat("/bucket/shards/manifest.json")
    bucket.pipe("/bucket/shards/manifest.json", manifest.replace(b'"format_version": 1', b'"format_version": 2'))
    with pytest.raises(ShardVersionError, match=r"memory://bucket/shards/manifest\.json is of format 2"):
        fetch()
    bucket.pipe("/bucket/shards/manifest.json", b"{")
    with pytest.raises(ShardCorruptError, match=r"memory://bucket/shards/manifest\.json must be a manifest"):
        fetch()
    bucket.pipe("/bucket/shards/manifest.json", bytes(remote.MAX_MANIFEST_BYTES + 1))
    with pytest.raises(ShardCorruptError, match="at most 32 MiB"):
        fetch()
    bucket.pipe("/bucket/shards/manifest.json", manifest)
    bucket.rm(f"/bucket/shards/{shard(folder, 1).name}")
    with pytest.raises(ShardIncompleteError, match=r"6 shards, got 5: ids 4-7 are not there. Nothing was fetched"):
        fetch()
    with pytest.raises(ShardNotFoundError, match=r"'memory://nowhere', which holds no manifest\.json"):
        open_remote("memory://nowhere", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists(), "nothing was begun"


def test_listed_names_lead_nowhere_else(bucket, tmp_path, monkeypatch):
    """A hostile server lists what it likes; files are stored under shards' names in the cache, or not at all."""
    original = type(bucket).ls
    evil = [
        {"name": "/bucket/shards/../../../evil.h5", "type": "file", "size": 1},
        {"name": f"/bucket/shards/..\\shard-00000.{'0' * 64}.h5", "type": "file", "size": 1},
        {"name": "/bucket/shards/.torchgenaug-fetching", "type": "file", "size": 1},
        {"name": "..", "type": "file", "size": 1},
        {"name": f"/bucket/shards/shard-00077.{'0' * 64}.h5", "type": "file", "size": 1 << 60},
    ]
    monkeypatch.setattr(type(bucket), "ls", lambda self, *args, **more: original(self, *args, **more) + evil)
    source = open_remote("memory://bucket/shards", cache=tmp_path / "cache" / "deeper")
    assert sorted(os.listdir(tmp_path / "cache")) == ["deeper"]
    assert len(list(source.path.glob("*.h5"))) == 6


def test_endless_files_are_cut_off(bucket, folder, tmp_path, monkeypatch):
    """A file that is longer than it was listed is not read to its end."""
    monkeypatch.setattr(remote, "_BLOCK", 1024)
    read = []

    class Endless:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def read(self, size):
            read.append(size)
            return bytes(size)

    original = type(bucket).open
    monkeypatch.setattr(
        type(bucket),
        "open",
        lambda self, path, *args, **more: Endless() if path.endswith(".h5") else original(self, path, *args, **more),
    )
    with pytest.raises(ShardCorruptError, match="sha256 of its name"):
        open_remote("memory://bucket/shards", cache=tmp_path / "cache")
    assert sum(read) <= shard(folder, 0).stat().st_size + 1024


def test_space_is_checked_first(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(ShardError, match=r"bytes free for 6 shards of memory://bucket/shards, got 1,000\. Nothing was"):
        open_remote("memory://bucket/shards", cache=tmp_path / "cache")


def test_unknown_protocols_and_absent_packages(tmp_path):
    with pytest.raises(ConfigurationError, match=r"got 'carrier-pigeon://shards'.*available_protocols"):
        open_remote("carrier-pigeon://shards", cache=tmp_path)
    with pytest.raises(MissingExtraError, match=r"needs a package that is not installed: .*"):
        open_remote("dropbox://shards", cache=tmp_path)


def test_a_cache_that_others_may_write_is_refused(bucket, tmp_path):
    cache = tmp_path / "cache"
    source = open_remote("memory://bucket/shards", cache=cache)
    assert cache.stat().st_mode & 0o777 == source.path.stat().st_mode & 0o777 == 0o700
    for place in (cache, source.path):
        place.chmod(0o777)
        with pytest.raises(ConfigurationError, match=r"only this user can write, got .*mode 0777.*chmod go-w"):
            open_remote("memory://bucket/shards", cache=cache)
        place.chmod(0o700)
    cache.chmod(0o1777)
    assert len(open_remote("memory://bucket/shards", cache=cache)) == 22, "in a sticky folder others replace nothing"
    if os.getuid() == 0:
        os.chown(cache, 12345, 12345)
        with pytest.raises(ConfigurationError, match=r"of user 12345 with mode 1777"):
            open_remote("memory://bucket/shards", cache=cache)  # its owner may replace what is ours
        os.chown(source.path, 12345, 12345)
        os.chown(cache, 12345, 12345)
        cache.chmod(0o755)
        seteuid = os.geteuid
        try:
            os.geteuid = lambda: 4242
            with pytest.raises(ConfigurationError, match="of user 12345"):
                open_remote("memory://bucket/shards", cache=cache)
        finally:
            os.geteuid = seteuid


def test_a_cache_that_is_a_link_is_refused(bucket, tmp_path):
    cache = tmp_path / "cache"
    path = open_remote("memory://bucket/shards", cache=cache).path
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="which is a link"):
        open_remote("memory://bucket/shards", cache=cache)


@pytest.mark.parametrize("put", [Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("name", [".torchgenaug-fetching", "shard"])
def test_what_has_the_name_of_a_file_of_the_cache_is_named_or_replaced(bucket, tmp_path, name, put):
    there = open_remote("memory://bucket/shards", cache=tmp_path / "cache").path
    file = shard(there, 3) if name == "shard" else there / name
    file.unlink()
    (there / "manifest.json").unlink()
    put(file)
    is_link = file.is_symlink()
    if name == "shard" and is_link:
        assert len(open_remote("memory://bucket/shards", cache=tmp_path / "cache").read(np.arange(22))["image"]) == 22
        assert not file.is_symlink()
        return
    with pytest.raises(ConfigurationError, match=r"is a link or a folder that somebody put there.*rm -r "):
        open_remote("memory://bucket/shards", cache=tmp_path / "cache")


@pytest.mark.parametrize("verify", ["sample", "off"])
def test_what_was_put_into_a_cache_is_hashed_when_it_is_opened(bucket, folder, tmp_path, verify):
    """Another render's samples, with right checksums and of the same size, under the expected name."""
    cache = tmp_path / "cache"
    path = shard(open_remote("memory://bucket/shards", cache=cache).path, 2)
    with h5py.File(path, "r+") as file:
        rows = file["image"][...] + 1
        file["image"][...] = rows
        sums = file["checksum"][...]
        sums[:, 0] = checksums(rows, [8, 9, 10, 11])
        file["checksum"][...] = sums
    found = open_remote("memory://bucket/shards", cache=cache, verify=verify)
    for source in (found, pickle.loads(pickle.dumps(found))):
        with pytest.raises(ShardCorruptError, match="sha256 of its content"):
            source.read(np.array([9]))


def test_what_is_left_in_a_cache_is_compared_before_it_is_used(bucket, folder, tmp_path):
    cache = tmp_path / "cache"
    path = open_remote("memory://bucket/shards", cache=cache).path
    (path / "manifest.json").write_text("{}")
    shard(path, 1).write_bytes(b"short")
    shard(path, 3).unlink()
    (path / shard(folder, 3).name).symlink_to("/dev/zero")
    source = open_remote("memory://bucket/shards", cache=cache)
    assert contents(source.path).items() >= contents(folder).items()
    assert torch.equal(source.read(np.arange(22))["image"], ShardSource(folder).read(np.arange(22))["image"])
    lock = path / ".torchgenaug-fetching"
    lock.unlink(missing_ok=True)
    lock.symlink_to(tmp_path / "not-made")
    shard(path, 1).unlink()
    with pytest.raises(ConfigurationError, match=r"is a link or a folder"):
        open_remote("memory://bucket/shards", cache=cache)
    assert not (tmp_path / "not-made").exists()


@pytest.fixture
def web(folder):
    """The folder behind a plain web server, which lists links without sizes, and refuses what is called secret."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if "broken" in self.path:
                self.send_error(500)
            else:
                super().do_GET()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder.parent)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_plain_web_server(web, folder, tmp_path):
    pytest.importorskip("aiohttp")
    source = open_remote(f"http://{web}/shards", cache=tmp_path / "cache")
    assert contents(source.path).items() >= contents(folder).items()


@pytest.mark.parametrize("path", ["nowhere", "broken"])
def test_secrets_of_a_url_stand_in_no_error(web, tmp_path, path):
    pytest.importorskip("aiohttp")
    with pytest.raises(ShardError) as raised:
        open_remote(f"http://me:geheim@{web}/{path}", cache=tmp_path / "cache")
    text = "".join(traceback.format_exception(raised.value))
    assert "geheim@" not in text.replace('f"http://me:geheim@{web}/{path}"', ""), "but for the line of this test"
    assert f"http://***@{web}/{path}" in str(raised.value)


def test_secrets_of_other_errors(tmp_path):
    with pytest.raises(ConfigurationError) as raised:
        open_remote("carrier-pigeon://me:geheim@host/shards?token=abc&x=1", cache=tmp_path)
    assert "carrier-pigeon://***@host/shards?token=***&x=***" in str(raised.value)
    assert "geheim" not in str(raised.value)
    assert remote.redacted("see s3://b/c and http://u:p@h/x") == "see s3://b/c and http://***@h/x"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:p@ss@host/x", "https://***@host/x"),
        ("https://me:se/cret@host:99/x?y=1", "https://***@host:99/x?y=***"),
        ("simplecache::https://:token@host", "simplecache::https://***@host"),
        ("https://host/x?token=a'b&c=d#e", "https://host/x?token=***&c=***#e"),
        ("'https://host/x?token=a'", "'https://host/x?token=***'"),
        ("hf://datasets/me/shards@0123/x", "hf://datasets/me/shards@0123/x"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
    ],
)
def test_what_is_shown_of_a_url(url, shown):
    assert remote.redacted(url) == shown


def test_a_render_to_a_url_does_not_show_its_password():
    with pytest.raises(ConfigurationError, match=r"got 'https://\*\*\*@host/x'"):
        render_shards(small_sequence(), "https://me:geheim@host/x", 4)


def test_what_is_advised_for_a_damaged_copy_fetches_it_again(bucket, tmp_path):
    expected = small_sequence().batch(list(range(22)))["image"]
    there = open_remote("memory://bucket/shards", cache=tmp_path / "cache").path
    file = shard(there, 3)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ShardCorruptError, match="open the URL again, which fetches it anew: rm -f ") as caught:
        open_remote("memory://bucket/shards", cache=tmp_path / "cache").read(np.arange(22))
    assert "--repair" not in str(caught.value)
    assert verify_shards(there).next_step.startswith("delete the damaged files and open the URL again")
    subprocess.run(str(caught.value).partition("anew: ")[2], shell=True, check=True)
    with pytest.raises(ShardIncompleteError, match="local copy of a remote folder: open the URL again"):
        ShardSource(there)
    again = open_remote("memory://bucket/shards", cache=tmp_path / "cache")
    assert torch.equal(again.read(np.arange(22))["image"], expected)
