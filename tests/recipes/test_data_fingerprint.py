"""A run that goes on does not read its data once more for their sha256; whatever changes in them is noticed."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from fit_helpers import blobs, tiny
from PIL import Image

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import FitOptions, fit, load_data
from torchgenaug.recipes.data import folder as folder_module
from torchgenaug.recipes.data import scan
from torchgenaug.recipes.data_fingerprint import (
    data_fingerprint,
    files_fingerprint,
    note_fingerprint,
    noted_fingerprint,
)


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A folder whose images are read anew each time."""
    monkeypatch.setattr(scan, "MAX_BYTES_IN_MEMORY", 0)
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(12):
        Image.fromarray(random.integers(0, 256, (16, 16), np.uint8)).save(tmp_path / "images" / f"{number:02}.png")
    return tmp_path / "images"


@pytest.fixture
def reads(monkeypatch):
    """How many samples were read from files so far."""
    counted = []
    original = folder_module.FolderSamples.__getitem__

    def counting(self, index):
        counted.append(index)
        return original(self, index)

    monkeypatch.setattr(folder_module.FolderSamples, "__getitem__", counting)
    return counted


def test_the_note_stands_for_reading_the_data(images, tmp_path, reads):
    data = load_data(images)
    sha256 = noted_fingerprint(data, tmp_path)
    assert sha256 == data_fingerprint(data)
    note_fingerprint(data, tmp_path, sha256)
    reads.clear()
    assert noted_fingerprint(load_data(images), tmp_path) == sha256
    scanned = len(reads)
    data_fingerprint(load_data(images))
    assert len(reads) == 2 * scanned + len(data), "only the scan of the data reads them"
    text = (tmp_path / "data.json").read_text()
    assert str(tmp_path) not in text


def replaced(path):
    content = path.read_bytes()
    about = path.stat()
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: len(content)].ljust(len(content), b"\0"))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (about.st_size, about.st_mtime_ns)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: replaced(images / "03.png"),
        lambda images: shutil.copy(images / "01.png", images / "02.png"),
        lambda images: os.replace(shutil.copy(images / "01.png", images.parent / "x.png"), images / "02.png"),
        lambda images: (images / "11.png").unlink(),
    ],
)
def test_whatever_changes_is_noticed(images, tmp_path, change):
    data = load_data(images)
    before = noted_fingerprint(data, tmp_path)
    note_fingerprint(data, tmp_path, before)
    change(images)
    assert noted_fingerprint(load_data(images), tmp_path) != before


@pytest.mark.parametrize(
    "damage", ["", "[]", "null", "{}", "[" * 100_000, '{"files": 1, "data_sha256": 2, "sha256": 3}']
)
def test_a_damaged_note_counts_for_nothing(images, tmp_path, damage):
    (tmp_path / "data.json").write_text(damage)
    data = load_data(images)
    assert noted_fingerprint(data, tmp_path) == data_fingerprint(data)


def test_an_edited_note_counts_for_nothing(images, tmp_path):
    data = load_data(images)
    note_fingerprint(data, tmp_path, "0" * 64)
    assert noted_fingerprint(data, tmp_path) == "0" * 64
    path = tmp_path / "data.json"
    path.write_text(path.read_text().replace("0" * 64, "1" * 64))
    assert noted_fingerprint(data, tmp_path) == data_fingerprint(data)


def test_parts_of_the_data_have_notes_of_their_own_and_memory_has_none(images):
    data = load_data(images)
    assert files_fingerprint(data) != files_fingerprint(data.select([1, 0]))
    assert files_fingerprint(load_data(images, size=8)) != files_fingerprint(data)
    assert files_fingerprint(blobs()) is None


def test_replaced_images_end_a_resume(images, tmp_path):
    def run():
        options = FitOptions(reports=1)
        return fit("vae", load_data(images), tmp_path / "model", recipe=tiny(steps=2, condition=None), options=options,
                   device="cpu", progress=False)  # fmt: skip

    assert run().finished
    replaced(images / "03.png")
    with pytest.raises(ConfigurationError, match="differences: data_sha256"):
        run()
