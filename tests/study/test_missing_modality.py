"""The study of a missing modality in a tiny version: what its arms hold; never scores."""

from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.study.missing_modality import MissingModality


def plain_pairs(split, lesions):
    draw = torch.Generator().manual_seed(len(split))
    count = 350 if split == "train" else 54
    t1 = torch.rand(count, 1, 64, 64, generator=draw)
    return t1, 1 - t1, (4 * t1).long()


def test_what_is_filled_in(tmp_path, monkeypatch):
    monkeypatch.setattr("torchgenaug.datasets.brain_contrasts._pairs", plain_pairs)
    study = MissingModality(complete=3, incomplete=9, steps=1).build(tmp_path, "missing")
    arms, split = {arm.name: arm for arm in study.arms}, study.splits[0]
    assert len(split.train) == 3
    assert split.train[0]["image"].shape == (2, 64, 64)
    table = arms["T2 by look-up table, affine"].source(split)
    empty = arms["empty T2, affine"].source(split)
    true = arms["oracle: true T2, affine"].source(split)
    assert len(table) == len(empty) == 9
    assert len(true) == 12
    assert not set(table.ids) & {*split.train.ids, *split.test.ids}
    assert empty.images[:, 1].abs().sum() == 0
    assert (table.images[:, 1] - (1 - table.images[:, 0])).abs().max() < 0.05
    assert torch.equal(table.images[:, 0], empty.images[:, 0])
    assert study.train(arms["empty T2, affine"].build(split, 0), 0, 1)(split.train.images).shape == (3, 5, 64, 64)
    with pytest.raises(ConfigurationError, match="`complete` and `incomplete` must be at least 2 each"):
        MissingModality(complete=1).build(tmp_path, "missing")
