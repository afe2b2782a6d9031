from __future__ import annotations

import hashlib
import os
import pickle
import traceback

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchgenaug.conditions import ClassLabels
from torchgenaug.errors import BadSampleError, ConfigurationError, SampleIndexError
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer
from torchgenaug.types import FieldSpec


class Labels:
    """Conditions without a `fields` attribute: the smallest that the contract allows."""

    fingerprint = hashlib.sha256(b"labels").hexdigest()

    def __call__(self, ids):
        return {"label": torch.tensor([k % 3 for k in ids])}


class Mutant:
    """An analytic synthesizer whose output a test can spoil."""

    def __init__(self, spoil):
        self.inner, self.spoil = AnalyticSynthesizer((8, 8)), spoil
        self.fields, self.fingerprint = self.inner.fields, self.inner.fingerprint

    def synthesize(self, seeds, conditions=None):
        return self.spoil(self.inner.synthesize(seeds, conditions))


@given(st.lists(st.integers(0, 2**61), min_size=1, max_size=6), st.integers(0, 2**63 - 1))
def test_a_sample_is_a_function_of_its_id(ids, seed):
    sequence = SyntheticSequence(AnalyticSynthesizer((6, 5)), seed=seed)
    together = sequence.batch(ids)
    for row, k in enumerate(ids):
        alone = pickle.loads(pickle.dumps(sequence)).batch([k])
        for name in together:
            assert torch.equal(alone[name][0], together[name][row])


def test_condition_fields_join_the_sample():
    sequence = SyntheticSequence(AnalyticSynthesizer(num_classes=3), Labels())
    batch = sequence.batch([0, 1, 2, 3])
    assert batch["label"].tolist() == [0, 1, 2, 0]
    assert sequence.fields["label"] == FieldSpec((), torch.int64, kind="scalar")
    assert list(batch) == list(sequence.fields)


def test_fingerprint_names_the_sequence():
    plain = SyntheticSequence(AnalyticSynthesizer())
    others = [
        SyntheticSequence(AnalyticSynthesizer(), seed=1),
        SyntheticSequence(AnalyticSynthesizer(), Labels()),
        SyntheticSequence(AnalyticSynthesizer((16, 16))),
    ]
    assert len({sequence.fingerprint for sequence in [plain, *others]}) == 4
    assert SyntheticSequence(AnalyticSynthesizer()).fingerprint == plain.fingerprint


def _set(name, row, value):
    def spoil(batch):
        batch[name][row, ..., 0] = value
        return batch

    return spoil


MUTATIONS = {
    "NaN": (_set("image", 2, float("nan")), "holds NaN or Inf in 1 of 4 samples: ids [12]"),
    "+Inf": (_set("image", 0, float("inf")), "holds NaN or Inf in 1 of 4 samples: ids [10]"),
    "-Inf": (_set("image", 3, float("-inf")), "holds NaN or Inf in 1 of 4 samples: ids [13]"),
    "above": (_set("image", 1, 1.5), "must stay in [0, 1], got"),
    "below": (_set("image", 1, -0.001), "must stay in [0, 1], got"),
    "0 to 255": (lambda b: {**b, "image": b["image"] * 255}, "must stay in [0, 1], got"),
    "-1 to 1": (lambda b: {**b, "image": b["image"] * 2 - 1}, "must stay in [0, 1], got"),
    "unknown class": (_set("mask", 1, 2), "'mask' must stay in [0, 1]"),
    "negative class": (_set("mask", 1, -1), "'mask' must stay in [0, 1]"),
    "float64": (lambda b: {**b, "image": b["image"].double()}, "must be torch.float32"),
    "float16": (lambda b: {**b, "image": b["image"].half()}, "got torch.float16"),
    "complex": (lambda b: {**b, "image": b["image"].to(torch.complex64)}, "got torch.complex64"),
    "int32 mask": (lambda b: {**b, "mask": b["mask"].int()}, "must be torch.int64"),
    "bool mask": (lambda b: {**b, "mask": b["mask"].bool()}, "got torch.bool"),
    "numpy": (lambda b: {**b, "image": b["image"].numpy()}, "must be a tensor, got ndarray"),
    "list": (lambda b: {**b, "image": b["image"].tolist()}, "must be a tensor, got list"),
    "None": (lambda b: {**b, "image": None}, "must be a tensor, got NoneType"),
    "no channel": (lambda b: {**b, "image": b["image"][:, 0]}, "of shape (4, 1, 8, 8), got"),
    "three channels": (lambda b: {**b, "image": b["image"].expand(-1, 3, -1, -1)}, "got torch.float32 of shape (4, 3"),
    "channels last": (lambda b: {**b, "image": b["image"].movedim(1, -1)}, "got torch.float32 of shape (4, 8, 8, 1)"),
    "larger": (lambda b: {**b, "image": b["image"].repeat(1, 1, 2, 2)}, "got torch.float32 of shape (4, 1, 16, 16)"),
    "one short": (lambda b: {**b, "image": b["image"][:3]}, "got torch.float32 of shape (3, 1, 8, 8)"),
    "one over": (lambda b: {**b, "image": b["image"][[0, 1, 2, 3, 3]]}, "got torch.float32 of shape (5, 1"),
    "empty": (lambda b: {**b, "image": b["image"][:0]}, "got torch.float32 of shape (0, 1"),
    "missing": (lambda b: {"image": b["image"]}, "missing: ['mask'], surplus: []"),
    "surplus": (lambda b: {**b, "depth": b["image"]}, "missing: [], surplus: ['depth']"),
    "renamed": (lambda b: {"img": b["image"], "mask": b["mask"]}, "missing: ['image'], surplus: ['img']"),
    "tensor": (lambda b: b["image"], "must return a dict of tensors, got Tensor"),
    "nothing": (lambda b: None, "must return a dict of tensors, got NoneType"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_nothing_bad_passes(name):
    spoil, message = MUTATIONS[name]
    sequence = SyntheticSequence(Mutant(spoil), seed=3)
    with pytest.raises(BadSampleError) as caught:
        sequence.batch([10, 11, 12, 13])
    assert message in str(caught.value)


def test_the_unspoiled_batch_passes():
    SyntheticSequence(Mutant(lambda batch: batch)).batch([10, 11, 12, 13])


def test_bad_samples_are_named_by_id_and_seed():
    sequence = SyntheticSequence(Mutant(_set("image", 2, float("nan"))), seed=3)
    with pytest.raises(BadSampleError) as caught:
        sequence.batch([10, 11, 12, 13])
    assert caught.value.ids == (12,)
    assert caught.value.seeds == (int(sequence.seeds([12])[0]),)
    assert str(caught.value.seeds[0]) in str(caught.value)


def test_a_failing_model_keeps_its_traceback_and_says_which_samples():
    def fail(batch):
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side assert") as caught:
        SyntheticSequence(Mutant(fail)).batch([7])
    assert "while synthesizing ids [7]" in caught.value.__notes__[0]


def test_conditions_of_wrong_length():
    class Short(Labels):
        def __call__(self, ids):
            return {"label": torch.zeros(1)}

    with pytest.raises(BadSampleError, match=r"must return tensors with 3 rows for 3 ids, got torch.float32 of shape"):
        SyntheticSequence(AnalyticSynthesizer(), Short()).batch([0, 1, 2])


class Refuse:
    fingerprint = "f" * 64

    def __call__(self, ids, seeds, batch):
        raise BadSampleError("copied", ids=ids, seeds=seeds)


def test_screens_see_every_batch():
    sequence = SyntheticSequence(AnalyticSynthesizer(), screens=[Refuse()])
    with pytest.raises(BadSampleError, match="copied") as caught:
        sequence.batch([4])
    assert caught.value.seeds == (int(sequence.seeds([4])[0]),)


@pytest.mark.parametrize("ids", [[], [-1], [0.5], [[1]], [1 << 62]])
def test_bad_ids(ids):
    with pytest.raises(SampleIndexError, match="`ids` must"):
        SyntheticSequence(AnalyticSynthesizer()).batch(ids)


def test_bad_arguments():
    with pytest.raises(ConfigurationError, match=r"`synthesizer` must have fields.* got Linear.* Wrap a network"):
        SyntheticSequence(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="`conditions` must be callable"):
        SyntheticSequence(AnalyticSynthesizer(), [1, 2])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="`seed` must be an integer"):
        SyntheticSequence(AnalyticSynthesizer(), seed=1.5)  # type: ignore[arg-type]


def test_seeds_do_not_repeat():
    assert len(np.unique(SyntheticSequence(AnalyticSynthesizer()).seeds(np.arange(100_000)))) == 100_000


class OnCuda(AnalyticSynthesizer):
    device = torch.device("cuda:1")
    touched = False

    def synthesize(self, seeds, conditions=None):
        OnCuda.touched = True
        return super().synthesize(seeds, conditions)


class Drawn(torch.utils.data.Dataset):
    """What users write themselves: a data set that asks the sequence."""

    def __init__(self, sequence):
        self.sequence = sequence

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.sequence.batch([index])["image"][0]


def test_cuda_in_a_forked_worker_is_named_before_it_is_touched():
    drawn = Drawn(SyntheticSequence(OnCuda((8, 8))))
    loader = torch.utils.data.DataLoader(drawn, num_workers=1)
    message = r"got cuda:1 in process \d+: .*SyntheticPool\(sequence, capacity\).*render_shards.*context='spawn'"
    with pytest.raises(ConfigurationError, match=message) as raised:
        next(iter(loader))
    traceback.clear_frames(raised.tb)  # collected later, the iterator would wait five seconds for its worker
    assert "in synthesize" not in str(raised.value)
    assert not OnCuda.touched
    assert drawn[0].shape == (1, 8, 8)  # its own process goes on


def test_cuda_in_a_copy_of_the_sequence_and_a_cpu_in_a_fork_are_fine():
    copy = pickle.loads(pickle.dumps(SyntheticSequence(OnCuda((8, 8)))))
    child = os.fork()
    if child == 0:
        born_here = pickle.loads(pickle.dumps(copy))  # as in a spawned worker
        ok = born_here.batch([0])["image"].shape == (1, 1, 8, 8)
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    on_cpu = Drawn(SyntheticSequence(AnalyticSynthesizer((8, 8))))
    assert len(list(torch.utils.data.DataLoader(on_cpu, num_workers=1))) == 2


class Limits:
    """Samples at the very limits of their range, of a dtype that cannot hold these numbers exactly."""

    fingerprint = "2" * 64
    fields = {"image": FieldSpec((2,), value_range=(-0.1, 0.1)), "code": FieldSpec((), torch.uint16, kind="scalar")}  # noqa: RUF012

    def synthesize(self, seeds, conditions=None):
        count = len(seeds)
        code = torch.full((count,), 65535).to(torch.uint16)
        return {"image": torch.tensor([-0.1, 0.1]).repeat(count, 1), "code": code}


def test_limits_are_those_of_the_dtype():
    batch = SyntheticSequence(Limits()).batch([0, 1])
    assert batch["image"].tolist() == torch.tensor([[-0.1, 0.1]] * 2).tolist()


FOUR = AnalyticSynthesizer((8, 8), num_classes=4)


class ConditionInputs(AnalyticSynthesizer):
    condition_fields = {"age": FieldSpec((), kind="scalar")}  # noqa: RUF012


@pytest.mark.parametrize(
    ("synthesizer", "conditions", "message"),
    [
        (FOUR, None, r"must hold \['label'\].*got \[\].*ClassLabels\(4\)"),
        (FOUR, ClassLabels(10), r"labels in \[0, 4\), got .*Use ClassLabels\(4\)"),
        (FOUR, ClassLabels(4, name="sex"), r"must hold \['label'\].*got \['sex'\]"),
        (ConditionInputs((8, 8), num_classes=2), ClassLabels(2), r"must hold \['age'\].*JointConditions"),
    ],
)
def test_conditions_that_the_synthesizer_would_refuse(synthesizer, conditions, message):
    with pytest.raises(ConfigurationError, match=message):
        SyntheticSequence(synthesizer, conditions)


def test_conditions_that_do_not_say_what_they_are_are_asked_later():
    class Silent:
        fingerprint = "3" * 64

        def __call__(self, ids):
            return {"label": torch.zeros(len(ids), dtype=torch.int64)}

    assert SyntheticSequence(AnalyticSynthesizer((8, 8), num_classes=4), Silent()).batch([0])["label"].tolist() == [0]
