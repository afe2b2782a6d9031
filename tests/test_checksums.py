"""One flipped bit in any file that a later command believes: an error of ours, or the same content as before.

All eight bits of every byte: ``python -m pytest tests/test_checksums.py -m slow``.
"""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest
import torch

from torchgenaug import (
    ModuleSynthesizer,
    ShardSource,
    SyntheticSequence,
    load_synthesizer,
    render_shards,
    save_synthesizer,
)
from torchgenaug.checksums import fits_checksum, read_entries, with_checksum
from torchgenaug.errors import TorchGenAugError
from torchgenaug.recipes import checkpoint, time_limit
from torchgenaug.recipes.data.patient_split import read_split
from torchgenaug.shards.filter_record import record_filter
from torchgenaug.shards.folder import read_manifest
from torchgenaug.study.results import Results, Run
from torchgenaug.synthesizers import build_network
from torchgenaug.synthesizers.saving import load
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource
from torchgenaug.trust import keep, load_kept


class Built:
    """Stands for a synthesizer: the entries that one is built from."""

    def __init__(self, index):
        names = ("family", "files", "fingerprint", "format", "networks", "parts", "settings", "trained_on", "version")
        self.entries = {name: index.get(name) for name in names}


def synthesizer(folder, monkeypatch):
    network = build_network("torchgenaug:DCGANGenerator", latent_dim=4, shape=[1, 8, 8], width=4)
    saved = ModuleSynthesizer(network, latent_shape=(4,), value_range=(-1, 1))
    saved.trained_on = {"data": "slices", "samples": ["a", "ü"], "distance": 0.125}
    save_synthesizer(saved, folder / "gan")
    # What would be built is what the entries say, so that their checksum alone is tested.
    monkeypatch.setattr(load, "_assembled", lambda index, *_: Built(index))
    return folder / "gan/synthesizer.json", lambda: load_synthesizer(folder / "gan").entries


def run(folder, _):
    checkpoint.begin(folder, {"seed": 0, "rate": 1e-3, "data": "ab", "nested": {"a": [1, 2]}})
    return folder / "run.json", lambda: checkpoint.settings_of(folder)


def state(folder, _):
    run(folder, _)
    checkpoint.save(folder, {"step": 1, "weights": torch.arange(4.0)})
    return folder / "checkpoint.pt", lambda: repr(checkpoint.load(folder, torch.device("cpu")))


def schedule(folder, _):
    time_limit._note(folder, 12)
    return folder / "plan.json", lambda: time_limit._noted(folder, 500)


def split(folder, _):
    part = {"samples": ["p1/a", "p1/b"], "patients": ["p1"]}
    content = {"format": "torchgenaug-split 1", "train": part, "held_out": {"samples": ["p2/a"], "patients": ["p2"]}}
    (folder / "split.json").write_text(json.dumps(with_checksum(content)))
    return folder / "split.json", lambda: read_split(folder)


def manifest(folder, _):
    sequence = SyntheticSequence(AnalyticSynthesizer((4, 4)))
    render_shards(sequence, folder / "shards", 4, batch_size=2, shard_size=2, progress=False)
    record_filter(folder / "shards", {"rule": "ab", "kept": 3, "acceptance_rate": 0.375})
    known = {field.name for field in dataclasses.fields(read_manifest(folder / "shards"))} - {"filter"}

    def read():
        source = ShardSource(folder / "shards")
        entries = {name: repr(getattr(source.manifest, name)) for name in known}
        filtered = {name: value for name, value in source.manifest.filter.items() if name in ("kept", "rule")}
        return entries, filtered, [(name, values.tolist()) for name, values in source.read(np.arange(1)).items()]

    return folder / "shards/manifest.json", read


def kept(folder, _):
    source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((4, 4))), 8)
    keep(source, lambda batch: batch["image"].flatten(1).mean(1), best=0.5).save(folder / "kept.json")

    def read():
        loaded = load_kept(source, folder / "kept.json")
        return loaded.positions.tolist(), loaded.scores.tolist(), loaded.rule, loaded.condition

    return folder / "kept.json", read


def results(folder, _):
    saved = Results(folder)
    saved.append(Run("real", 0, "all", 5, 0.5, 1.5, 0.25, "ab", "net"))

    def read():
        runs = saved.runs()
        if not runs:
            raise TorchGenAugError("the run counts as not done")
        return runs

    return folder / "results.jsonl", read


FILES = (synthesizer, run, state, schedule, split, manifest, kept, results)


def flip(path, read, bits):
    """How many flips were refused, and how many left what is read as it was; fails on any other outcome."""
    intact, expected = path.read_bytes(), read()
    refused = same = 0
    for place in range(len(intact)):
        for bit in bits(place):
            content = bytearray(intact)
            content[place] ^= 1 << bit
            path.write_bytes(content)
            try:
                found = read()
            except TorchGenAugError:
                refused += 1
            else:
                assert found == expected, (place, bit)
                same += 1
    return refused, same


@pytest.mark.parametrize("make", FILES)
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path, monkeypatch, make):
    """A bit of every third byte; what changes nothing are spaces, and the name of the checksum."""
    refused, same = flip(*make(tmp_path, monkeypatch), lambda place: [] if place % 3 else [place * 5 % 8])
    assert refused > 10 * same


@pytest.mark.slow
@pytest.mark.parametrize("make", FILES)
def test_every_flipped_bit_is_refused_or_changes_nothing(tmp_path, monkeypatch, make):
    refused, same = flip(*make(tmp_path, monkeypatch), lambda _: range(8))
    assert refused > 10 * same


def test_files_of_older_versions_have_no_checksum(tmp_path):
    (tmp_path / "old.json").write_text('{"a": 1}')
    assert read_entries(tmp_path / "old.json") == {"a": 1}
    assert fits_checksum({})
    assert not fits_checksum({"a": 1, "sha256": "0"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "deeper nested"),
        (b"[]", "no JSON object"),
        (b"\xff", "utf-8"),
        (b" " * 99, "regular file of at"),
    ],
)
def test_what_is_no_such_file(tmp_path, content, message):
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_entries(tmp_path / "file.json", max_bytes=98 if b" " in content else 1 << 20)


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "file.json")
    with pytest.raises(ValueError, match="no regular file"):
        read_entries(tmp_path / "file.json")
