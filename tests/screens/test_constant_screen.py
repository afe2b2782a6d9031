from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from torchgenaug import ClassLabels, FieldSpec, FunctionSynthesizer, SyntheticSequence, load_synthesizer, seeding
from torchgenaug.contracts import Screen
from torchgenaug.demo import WEIGHTS
from torchgenaug.errors import BadSampleError, ConfigurationError
from torchgenaug.screens import ConstantScreen
from torchgenaug.screens.constant import constant_rows
from torchgenaug.testing import AnalyticSynthesizer

SHAPES = ((1, 4, 4), (1, 28, 28), (3, 8, 8), (1, 6, 6, 6), (2, 17), (1, 64, 64))
VALUES = (0.0, 1.0, -1.0, 1e-30, 1e30, 0.1, -1000.0, 3e-45)


def test_every_constant_is_refused():
    """1,000 constants among 8,000 images of all shapes: exactly they are named."""
    random = np.random.default_rng(0)
    screen, refused, planted = ConstantScreen(), 0, 0
    for turn in range(125):
        shape = SHAPES[turn % len(SHAPES)]
        images = torch.from_numpy(random.normal(size=(64, *shape)).astype(np.float32))
        rows = sorted(random.choice(64, 8, replace=False).tolist())
        for row in rows:
            images[row] = VALUES[int(random.integers(len(VALUES)))]
        planted += len(rows)
        ids = list(range(100 * turn, 100 * turn + 64))
        with pytest.raises(BadSampleError, match="'image' must not be constant") as caught:
            screen(ids, [7 * number for number in ids], {"image": images})
        assert caught.value.ids == tuple(ids[row] for row in rows)
        assert caught.value.seeds == tuple(7 * ids[row] for row in rows)
        refused += len(caught.value.ids)
    assert refused == planted == 1000


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int16, torch.uint16]
)
def test_any_dtype(dtype):
    images = torch.arange(3 * 64).reshape(3, 1, 8, 8).to(dtype)
    images[1] = 5
    assert constant_rows(images) == [1]


def test_what_differs_anywhere_passes():
    for place in range(64):
        images = torch.zeros(1, 1, 8, 8)
        images.view(-1)[place] = 1e-5
        assert constant_rows(images) == []


def test_rounding_does_not_hide_a_constant():
    images = torch.full((2, 1, 8, 8), 0.1)
    images[0] += 1e-8 * torch.rand(1, 8, 8)
    images[1] += 1e-3 * torch.rand(1, 8, 8)
    assert constant_rows(images) == [0]


def blank_at_seven(seeds, conditions):
    images = seeding.normal(seeds, (1, 8, 8))
    images[[seed % 11 == 7 for seed in seeds]] = 0.5
    return {"image": images, "mask": torch.zeros(len(seeds), 1, 8, 8, dtype=torch.int64)}


FIELDS = {"image": FieldSpec((1, 8, 8)), "mask": FieldSpec((1, 8, 8), torch.int64, kind="label_map")}


def test_a_sequence_refuses_constants_unless_told_otherwise():
    synthesizer = FunctionSynthesizer(blank_at_seven, FIELDS, fingerprint="blank at seven")
    sequence, without = SyntheticSequence(synthesizer), SyntheticSequence(synthesizer, screens=())
    blank = [k for k in range(100) if int(sequence.seeds([k])[0]) % 11 == 7]
    assert blank
    with pytest.raises(BadSampleError, match=r"SyntheticSequence\(\.\.\., screens=\(\)\)") as caught:
        sequence.batch(range(100))
    assert list(caught.value.ids) == blank
    assert without.batch(range(100))["image"].shape == (100, 1, 8, 8)
    good = [k for k in range(100) if k not in blank]
    assert torch.equal(sequence.batch(good)["image"], without.batch(good)["image"])  # empty masks are no fault
    assert sequence.fingerprint == without.fingerprint, "neither the check nor its absence changes a sample"
    given = SyntheticSequence(synthesizer, screens=[ConstantScreen()])
    assert given.fingerprint != sequence.fingerprint
    copy = pickle.loads(pickle.dumps(sequence))
    assert (copy.fingerprint, repr(copy.screens)) == (sequence.fingerprint, "(ConstantScreen(['image']),)")


def test_no_images_no_screen():
    fields = {
        "latent": FieldSpec((64,)),
        "binary": FieldSpec((1, 8, 8), torch.bool),
        "tiny": FieldSpec((1, 3, 3)),
        "mask": FIELDS["mask"],
    }
    synthesizer = FunctionSynthesizer(lambda seeds, _: {}, fields, fingerprint="none")
    assert SyntheticSequence(synthesizer).screens == ()


def test_no_false_alarms():
    brains = SyntheticSequence(load_synthesizer(WEIGHTS), ClassLabels(4))
    assert brains.batch(range(2))["image"].shape[0] == 2
    assert len(SyntheticSequence(AnalyticSynthesizer((28, 28))).batch(range(500))["image"]) == 500


def test_fields_and_contract():
    screen = ConstantScreen(["source"])
    assert isinstance(screen, Screen)
    screen([0], [0], {"source": torch.rand(1, 1, 8, 8), "image": torch.zeros(1, 1, 8, 8)})
    with pytest.raises(ConfigurationError, match=r"got 'source', which is absent\. The batch holds \['image'\]"):
        screen([0], [0], {"image": torch.rand(1, 1, 8, 8)})
    with pytest.raises(ConfigurationError, match=r"which is of shape \(1, 8\)"):
        screen([0], [0], {"source": torch.rand(1, 8)})
    assert len({screen.fingerprint, ConstantScreen().fingerprint, ConstantScreen(["image"]).fingerprint}) == 3
