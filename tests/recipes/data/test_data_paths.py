"""Paths as launchers, hub caches and version control hand them over."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from files_of_layouts import area, put

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data import scan
from torchgenaug.recipes.data.load import load_data


@pytest.fixture
def folder(tmp_path):
    for k in range(3):
        put(tmp_path, f"set/images/{k}.png")
        put(tmp_path, f"set/masks/{k}.png", area(str(k)))
    return tmp_path / "set"


def test_paths_strings_homes_and_relative_ones(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for name in (folder, str(folder), "set", "./set", "set/", "~/set", "set/../set", folder / "images" / ".."):
        assert len(load_data(name)) == 3


def test_the_working_directory_may_change_afterwards(folder, monkeypatch, tmp_path):
    """As launchers do that give every run a folder of its own."""
    monkeypatch.setattr(scan, "MAX_BYTES_IN_MEMORY", 100)
    monkeypatch.chdir(folder.parent)
    data = load_data("set")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert data.samples[0]["image"].shape == (1, 16, 16)
    again = pickle.loads(pickle.dumps(data.samples))
    assert again[1]["mask"].sum() == (area("1") > 0).sum()


def test_links_of_files_and_folders(folder, tmp_path):
    """Hub caches and DVC: names are links, contents lie elsewhere under names without an ending."""
    cache, linked = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    cache.mkdir()
    for part in ("images", "masks"):
        (linked / part).mkdir(parents=True)
        for path in sorted((folder / part).iterdir()):
            blob = cache / f"{part}{path.stem}"
            blob.write_bytes(path.read_bytes())
            (linked / part / path.name).symlink_to(os.path.relpath(blob, linked / part))
    (tmp_path / "linked").mkdir()
    for part in ("images", "masks"):
        (tmp_path / "linked" / part).symlink_to(folder / part, target_is_directory=True)
    (tmp_path / "link").symlink_to(linked, target_is_directory=True)
    expected = load_data(folder)
    for name in (linked, tmp_path / "linked", tmp_path / "link"):
        data = load_data(name)
        assert data.ids == expected.ids
        assert all(torch.equal(data.samples[k]["image"], expected.samples[k]["image"]) for k in range(3))


def test_a_link_into_itself_ends(folder):
    (folder / "images" / "again").symlink_to(folder, target_is_directory=True)
    data = load_data(folder)
    assert len(data) == 3
    assert "links to a folder that was read already" in " ".join(data.remarks)


@pytest.mark.parametrize("name", ["labels.csv", "dataset.json", "dataset_description.json"])
def test_a_file_that_stands_for_its_folder(tmp_path, name):
    for k in range(2):
        put(tmp_path, f"{k}.png")
    (tmp_path / name).write_text("file,label\n0.png,a\n1.png,b" if name == "labels.csv" else "{}")
    data = load_data(tmp_path / name)
    assert len(data) == 2
    assert f"{name} stands for its folder" in data.remarks[0]


def test_what_is_not_there_is_shown(folder, tmp_path, monkeypatch):
    with pytest.raises(ConfigurationError, match=rf"which is a file\. Give its folder: {folder}/images"):
        load_data(folder / "images" / "0.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=rf"none of them\. There is no wrong in {folder}\. Check"):
        load_data("set/wrong/images")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=r"is a link to .*nowhere, which does not exist.*dvc pull"):
        load_data("gone")


def test_names_with_odd_signs(tmp_path):
    for k in range(2):
        put(tmp_path, f"säet [1]:x/images/p {k} #é.png")
        put(tmp_path, f"säet [1]:x/masks/p {k} #é.png", area(str(k)))
    assert len(load_data(tmp_path / "säet [1]:x")) == 2
    assert len(load_data(str(tmp_path / "säet [1]:x"), images="images/*.png", masks="masks/*")) == 2
