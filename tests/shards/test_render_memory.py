"""A render whose model does not fit into memory as planned."""

from __future__ import annotations

import h5py
import pytest
import torch
from shards_helpers import render, shard

from torchgenaug import ClassLabels, ShardSource, SyntheticSequence, verify_shards
from torchgenaug.shards.structure import CALL_SIZE_ATTRIBUTE
from torchgenaug.testing import AnalyticSynthesizer


class Small(AnalyticSynthesizer):
    """From the third call on, no more than five samples fit."""

    def __init__(self):
        super().__init__((8, 8), num_classes=3)
        self.calls = []

    def synthesize(self, seeds, conditions=None):
        self.calls.append(len(seeds))
        if len(self.calls) > 2 and len(seeds) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().synthesize(seeds, conditions)


def noted(path):
    with h5py.File(path) as file:
        return file.attrs.get(CALL_SIZE_ATTRIBUTE)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_smaller_calls_are_recorded_where_they_happened(tmp_path, compression):
    settings = {"count": 256, "batch_size": 64, "shard_size": 64, "compression": compression}
    sequence = SyntheticSequence(Small(), ClassLabels(3), seed=5)
    with pytest.warns(RuntimeWarning, match="Memory ran out at samples 128 to 191: .* given 4 samples") as caught:
        source = render(tmp_path / "shards", sequence=sequence, **settings)
    assert len(caught) == 1
    calls = sequence.synthesizer.calls
    assert calls[:7] == [64, 64, 64, 32, 16, 8, 4], "at most six attempts from 64"
    assert set(calls[7:]) == {4}, "the size that fits is kept"
    assert [noted(shard(tmp_path / "shards", index)) for index in range(4)] == [None, None, 4, 4]
    assert verify_shards(tmp_path / "shards").ok
    plain = render(tmp_path / "plain", **settings)
    ids = source.ids(range(256))
    assert torch.equal(source.read(ids)["image"], plain.read(ids)["image"])
    assert len(ShardSource(tmp_path / "shards", verify="hash").read(ids)["mask"]) == 256


def test_nothing_fits_at_all(tmp_path):
    class Nothing(AnalyticSynthesizer):
        def synthesize(self, seeds, conditions=None):
            raise MemoryError

    with pytest.raises(MemoryError) as raised:
        render(tmp_path / "shards", sequence=SyntheticSequence(Nothing((8, 8))))
    notes = raised.value.__notes__
    assert any("Not even one sample at a time fits into memory" in note for note in notes)
    assert any("nothing is left of it" in note for note in notes)
