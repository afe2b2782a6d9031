"""What a model must not return never gets through: every kind of it, in great numbers, and on the way to the disk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchgenaug import ClassLabels, FieldSpec, FunctionSynthesizer, SyntheticSequence, render_shards, seeding
from torchgenaug.errors import BadSampleError
from torchgenaug.testing import AnalyticSynthesizer

NOT_FINITE = (float("nan"), float("inf"), float("-inf"))
FIELDS = {
    "image": FieldSpec((2, 4, 6), value_range=(-1000.0, 2000.0)),
    "volume": FieldSpec((1, 3, 4, 5), torch.float16),
    "mask": FieldSpec((1, 4, 6), torch.uint8, kind="label_map", value_range=(0, 3)),
    "label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, 9)),
    "age": FieldSpec((), torch.float64, kind="scalar", value_range=(0, 120)),
}


def good(seeds, conditions=None):
    count = len(seeds)
    return {
        "image": 100 * seeding.normal(seeds, (2, 4, 6)),
        "volume": seeding.normal(seeds, (1, 3, 4, 5)).half(),
        "mask": torch.arange(count)[:, None, None, None].expand(-1, 1, 4, 6).remainder(4).to(torch.uint8),
        "label": torch.arange(count) % 10,
        "age": torch.linspace(0, 120, count, dtype=torch.float64),
    }


def put(name, value, *place):
    def change(batch):
        field = batch[name].clone()
        field[(3, *place)] = value
        return {**batch, name: field}

    return change


def to(name, function):
    return lambda batch: {**batch, name: function(batch[name])}


MUTATIONS = {
    **{f"image {value}": (put("image", value, 1, 2, 3), "holds NaN or Inf") for value in NOT_FINITE},
    **{f"volume {value}": (put("volume", value, 0, 2, 3, 4), "holds NaN or Inf") for value in NOT_FINITE},
    **{f"age {value}": (put("age", value), "holds NaN or Inf") for value in NOT_FINITE},
    "image above": (put("image", 2000.001, 0, 0, 0), "must stay in [-1000, 2000]"),
    "image below": (put("image", -1000.001, 1, 3, 5), "must stay in [-1000, 2000]"),
    "mask above": (put("mask", 4, 0, 0, 0), "must stay in [0, 3]"),
    "label above": (put("label", 10), "must stay in [0, 9]"),
    "label below": (put("label", -1), "must stay in [0, 9]"),
    "age above": (put("age", 120.0001), "must stay in [0, 120]"),
    "age below": (put("age", -1e-9), "must stay in [0, 120]"),
    "image bfloat16": (to("image", torch.Tensor.bfloat16), "must be torch.float32"),
    "image uint8": (to("image", lambda x: x.clamp(0, 1).to(torch.uint8)), "must be torch.float32"),
    "volume float32": (to("volume", torch.Tensor.float), "must be torch.float16"),
    "mask int16": (to("mask", torch.Tensor.short), "must be torch.uint8"),
    "mask one-hot": (to("mask", lambda x: x.expand(-1, 4, -1, -1)), "of shape (8, 1, 4, 6), got"),
    "label float": (to("label", torch.Tensor.float), "must be torch.int64"),
    "label column": (to("label", lambda x: x[:, None]), "of shape (8,), got"),
    "label one-hot": (to("label", lambda x: torch.nn.functional.one_hot(x, 10)), "of shape (8,), got"),
    "age float32": (to("age", torch.Tensor.float), "must be torch.float64"),
    "age number": (to("age", lambda x: 7.0), "must be a tensor, got float"),
    "image grey": (to("image", lambda x: x[:, :1]), "of shape (8, 2, 4, 6), got"),
    "image rgb": (to("image", lambda x: x[:, [0, 0, 1]]), "of shape (8, 2, 4, 6), got"),
    "image turned": (to("image", lambda x: x.transpose(2, 3)), "of shape (8, 2, 4, 6), got"),
    "image flat": (to("image", lambda x: x.flatten(1)), "of shape (8, 2, 4, 6), got"),
    "image deep": (to("image", lambda x: x[..., None]), "of shape (8, 2, 4, 6), got"),
    "image batch last": (to("image", lambda x: x.movedim(0, -1)), "of shape (8, 2, 4, 6), got"),
    "image one sample": (to("image", lambda x: x[0]), "of shape (8, 2, 4, 6), got"),
    "volume 2D": (to("volume", lambda x: x[..., 0]), "of shape (8, 1, 3, 4, 5), got"),
    "volume axes": (to("volume", lambda x: x.permute(0, 1, 4, 3, 2)), "of shape (8, 1, 3, 4, 5), got"),
    "image constant": (to("image", lambda x: torch.full_like(x, 7)), "must not be constant"),
    "volume black": (to("volume", torch.zeros_like), "must not be constant"),
    "image tuple": (to("image", lambda x: (x,)), "must be a tensor, got tuple"),
    "mask string": (to("mask", lambda x: "mask"), "must be a tensor, got str"),
    "label missing": (lambda b: {k: v for k, v in b.items() if k != "label"}, "missing: ['label']"),
    "logits too": (lambda b: {**b, "logits": b["image"]}, "surplus: ['logits']"),
    "names changed": (lambda b: {k.upper(): v for k, v in b.items()}, "missing: ['age', 'image'"),
    "pairs": (lambda b: list(b.items()), "must return a dict of tensors, got list"),
}


def test_there_are_enough_of_them():
    assert len(MUTATIONS) >= 40
    SyntheticSequence(FunctionSynthesizer(good, FIELDS, fingerprint="good")).batch(range(8))


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_is_refused(name):
    change, message = MUTATIONS[name]
    synthesizer = FunctionSynthesizer(lambda seeds, _: change(good(seeds)), FIELDS, fingerprint=name)
    with pytest.raises(BadSampleError) as caught:
        SyntheticSequence(synthesizer).batch(range(8))
    assert message in str(caught.value), str(caught.value)
    if "constant" not in message and "[" in message and "missing" not in message and "surplus" not in message:
        assert caught.value.ids == (3,)


def test_a_hundred_thousand_bad_samples():
    """Exactly those that were spoilt are named, with their seeds; none of their batches is handed out."""
    random, spoilt = np.random.default_rng(0), {}

    def model(seeds, conditions):
        images = torch.rand(len(seeds), 1, 4, 4, generator=torch.Generator().manual_seed(0))
        rows = random.random(len(seeds)) < 0.5
        rows[random.integers(len(seeds))] = True
        rows = np.flatnonzero(rows)
        images.view(len(seeds), -1)[rows, random.integers(16, size=len(rows))] = torch.tensor(NOT_FINITE)[
            random.integers(3, size=len(rows))
        ]
        spoilt["rows"] = rows
        return {"image": images}

    sequence = SyntheticSequence(
        FunctionSynthesizer(model, {"image": FieldSpec((1, 4, 4), value_range=(0, 1))}, fingerprint="spoilt")
    )
    injected = 0
    for start in range(0, 1 << 30, 500):
        with pytest.raises(BadSampleError, match="holds NaN or Inf") as caught:
            sequence.batch(range(start, start + 500))
        ids = (start + spoilt["rows"]).tolist()
        assert caught.value.ids == tuple(ids)
        assert caught.value.seeds == tuple(sequence.seeds(ids).tolist())
        injected += len(ids)
        if injected >= 100_000:
            break


@pytest.mark.parametrize("dtype", [None, "float16", "uint8", "uint16"])
@pytest.mark.parametrize("value", [*NOT_FINITE, 1e30, -0.5, 1.5])
def test_nothing_bad_reaches_a_shard_whatever_it_is_stored_as(tmp_path, dtype, value):
    class Spoiling(AnalyticSynthesizer):
        def synthesize(self, seeds, conditions=None):
            batch = super().synthesize(seeds, conditions)
            if BAD in seeds:
                batch["image"][seeds.index(BAD), 0, 3, 3] = value
            return batch

    sequence = SyntheticSequence(Spoiling((8, 8), num_classes=3), ClassLabels(3))
    BAD = int(sequence.seeds([13])[0])  # noqa: N806
    settings = {"batch_size": 2, "shard_size": 4, "dtype": dtype, "progress": False}
    with pytest.raises(BadSampleError, match=r"ids \[13\]"):
        render_shards(sequence, tmp_path / "shards", 24, **settings)
    names = sorted(path.name[:11] for path in (tmp_path / "shards").iterdir() if path.name.startswith("shard-"))
    assert names == ["shard-00000", "shard-00001", "shard-00002"][: len(names)]
    assert not list((tmp_path / "shards").glob(".*"))
