from __future__ import annotations

import copy
import dataclasses
import json

import pytest
from shards_helpers import render

from torchgenaug.errors import ShardCorruptError, ShardVersionError
from torchgenaug.shards.format import Manifest, parse_shard_name, shard_name

DIGEST = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return render(tmp_path_factory.mktemp("format") / "shards", dtype="uint8").manifest


def test_bytes_round_trip(manifest):
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


def test_ranges_cover_every_id_once(manifest):
    assert manifest.num_shards == 6
    ids = [sample for index in range(6) for sample in manifest.shard_range(index)]
    assert ids == list(range(22))


def test_render_id_depends_on_everything_but_count(manifest):
    def changed(**values):
        fields = {name: getattr(manifest, name) for name in Manifest.__slots__} | values
        return Manifest(**fields).render_id

    assert changed(count=40) == manifest.render_id
    for name, value in {"seed": 6, "sequence": DIGEST, "batch_size": 1, "num_threads": 9, "compression": "lz4"}.items():
        assert changed(**{name: value}) != manifest.render_id


def test_what_a_filter_found_is_no_part_of_the_plan(manifest):
    assert "filter" not in manifest.to_json()
    filtered = dataclasses.replace(manifest, filter={"kept": 3, "acceptance_rate": 0.3})
    assert filtered.render_id == manifest.render_id
    assert Manifest.from_bytes(filtered.to_bytes()) == filtered != manifest
    with pytest.raises(ShardCorruptError, match="filter must be an object"):
        Manifest.from_bytes(dataclasses.replace(manifest, filter=["kept"]).to_bytes())


@pytest.mark.parametrize("index", [0, 12, 99999, 100000, 12345678])
def test_names_round_trip(index):
    assert parse_shard_name(shard_name(index, DIGEST)) == (index, DIGEST)


@pytest.mark.parametrize(
    "name",
    [
        f"shard-0012.{DIGEST}.h5",
        f"shard-000012.{DIGEST}.h5",
        f"shard-00012.{DIGEST[:-1]}.h5",
        f"shard-00012.{DIGEST.upper()}.h5",
        f"shard-00012.{DIGEST}.h5\n",
        f"../shard-00012.{DIGEST}.h5",
        f"/shard-00012.{DIGEST}.h5",
        f"shard-٠٠٠١٢.{DIGEST}.h5",
        f"shard-00012.{DIGEST}.h5\0",
        f".shard-00012.{DIGEST}.h5.tmp",
        "manifest.json",
    ],
)
def test_other_names_are_no_shards(name):
    assert parse_shard_name(name) is None


def test_newer_version_is_a_named_error(manifest):
    values = manifest.to_json() | {"format_version": 2, "new": 1}
    with pytest.raises(ShardVersionError, match=r"is of format 2; .*pip install --upgrade torchgenaug"):
        Manifest.from_bytes(json.dumps(values).encode())


def edited(path, value):
    def edit(values):
        *outer, last = path
        for key in outer:
            values = values[key]
        if value is ...:
            del values[last]
        else:
            values[last] = value

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        edited(["format"], "other"),
        edited(["format_version"], 0),
        edited(["format_version"], "1"),
        edited(["format_version"], True),
        edited(["count"], 0),
        edited(["count"], -1),
        edited(["count"], 2.0),
        edited(["count"], 1 << 60),
        edited(["count"], ...),
        edited(["surplus"], 1),
        edited(["shard_size"], 3),
        edited(["batch_size"], 0),
        edited(["seed"], -1),
        edited(["sequence"], "../../etc/passwd"),
        edited(["synthesizer"], None),
        edited(["compression"], "brotli"),
        edited(["versions"], []),
        edited(["versions", "torch"], 2),
        edited(["device"], None),
        edited(["fields"], {}),
        edited(["fields"], []),
        edited(["fields", "../image"], {}),
        edited(["fields", "id"], {}),
        edited(["fields", "image", "shape"], [1, -8, 8]),
        edited(["fields", "image", "shape"], "abc"),
        edited(["fields", "image", "shape"], [1 << 40]),
        edited(["fields", "image", "dtype"], "object"),
        edited(["fields", "image", "dtype"], "load"),
        edited(["fields", "image", "kind"], "pickle"),
        edited(["fields", "image", "value_range"], [1, 0]),
        edited(["fields", "image", "stored", "dtype"], "object"),
        edited(["fields", "image", "stored", "scale"], "1"),
        edited(["fields", "image", "stored", "more"], 1),
        edited(["fields", "image", "stored"], 3),
        edited(["fields", "image"], None),
    ],
)
def test_everything_else_is_refused(manifest, edit):
    values = copy.deepcopy(manifest.to_json())
    edit(values)
    with pytest.raises(ShardCorruptError, match="must be a manifest of format 1: "):
        Manifest.from_bytes(json.dumps(values).encode())


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format": "torchgenaug-shards"}']
)
def test_other_bytes_are_refused(content):
    with pytest.raises(ShardCorruptError, match=r"folder/manifest\.json must be a manifest"):
        Manifest.from_bytes(content, where="folder/manifest.json")


def test_only_utf_8_without_a_mark_is_a_manifest(manifest):
    text = manifest.to_bytes().decode()
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"):
        with pytest.raises(ShardCorruptError, match="must be a manifest of format 1"):
            Manifest.from_bytes(text.encode(encoding))
    with pytest.raises(ShardCorruptError):
        Manifest.from_bytes(text.replace('"cpu"', '"\\ud800"').encode())


def test_a_million_axes_are_refused_at_once(manifest):
    values = json.loads(manifest.to_bytes())
    next(iter(values["fields"].values()))["shape"] = [4_000_000_000] * 1_000_000
    with pytest.raises(ShardCorruptError, match=r"at most 31 sizes|more than 1,000,000 values"):
        Manifest.from_bytes(json.dumps(values).encode())
