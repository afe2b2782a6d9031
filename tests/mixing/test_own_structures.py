"""Sample structures of users that no field of a source fits by itself: `synthetic_transform` builds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from torchgenaug import ClassLabels, SyntheticMixDataset, SyntheticSequence
from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

Image = pytest.importorskip("PIL.Image")
SIDE, SIZE = 16, 6
SOURCE = InMemorySource(SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE), num_classes=2), ClassLabels(2)), 5)


@dataclass
class Case:
    image: torch.Tensor
    label: int


def image():
    return torch.rand(1, SIDE, SIDE)


STRUCTURES = {
    "dataclass": (lambda k: Case(image(), k % 2), None, lambda s: Case(s["image"], int(s["label"]))),
    "nested dict": (
        lambda k: {"image": image(), "target": {"label": k % 2, "boxes": torch.zeros(4)}},
        None,
        lambda s: {"image": s["image"], "target": {"label": int(s["label"]), "boxes": torch.zeros(4)}},
    ),
    "nested tuple": (lambda k: ((image(), image()), k % 2), ("image", "label"), lambda s: ((s[0], s[0]), s[1])),
    "dict in a tuple": (
        lambda k: (image(), {"label": k % 2}),
        ("image", "label"),
        lambda s: (s[0], {"label": int(s[1])}),
    ),
    "classes as texts": (
        lambda k: {"image": image(), "label": ["cat", "dog"][k % 2]},
        None,
        lambda s: {"image": s["image"], "label": ["cat", "dog"][int(s["label"])]},
    ),
    "several labels": (lambda k: (image(), torch.tensor([0, 1, 1])), ("image", "label"),
                       lambda s: (s[0], torch.tensor([1, 0, int(s[1])]))),
    "colours of Pillow": (
        lambda k: (Image.fromarray(np.full((SIDE, SIDE, 3), 40 * k, np.uint8)), k % 2),
        ("image", "label"),
        lambda s: ((255 * s[0].clamp(0, 1)).to(torch.uint8).repeat(3, 1, 1), s[1]),
    ),
}  # fmt: skip


def kinds(value):
    """The types of a value and of what it holds."""
    if isinstance(value, dict):
        return {name: kinds(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [kinds(each) for each in value]
    if isinstance(value, Case):
        return [Case, kinds(value.image), kinds(value.label)]
    return (type(value), value.mode) if isinstance(value, Image.Image) else type(value)


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_a_structure_is_refused_until_a_transform_builds_it(name):
    make, fields, build = STRUCTURES[name]
    real = [make(k) for k in range(SIZE)]
    with pytest.raises(FieldMismatchError, match="synthetic_transform"):
        SyntheticMixDataset(real, SOURCE, 0.5, fields=fields)
    mixed = SyntheticMixDataset(real, SOURCE, 0.5, fields=fields, synthetic_transform=build)
    for k, synthetic in enumerate(mixed.is_synthetic()):
        assert kinds(mixed[k]) == kinds(real[k])
        assert synthetic or mixed[k] is real[k] or fields is not None


@pytest.mark.parametrize(
    "values",
    [
        [float(k) for k in range(SIZE)],
        [f"s{k}" for k in range(SIZE)],
        list(range(SIZE)),
        [np.float32(k) for k in range(SIZE)],
        [k % 2 == 0 for k in range(SIZE)],
    ],
)
def test_bare_numbers_and_texts(values):
    mixed = SyntheticMixDataset(values, values[::-1][:3], 0.5)
    for k, synthetic in enumerate(mixed.is_synthetic()):
        assert type(mixed[k]) is type(values[0])
        assert synthetic or mixed[k] is values[k]


def test_keys_that_are_no_texts_are_refused():
    with pytest.raises(ConfigurationError, match=r"keys of a sample must be texts, got 0"):
        SyntheticMixDataset([{0: torch.rand(1, 8, 8)}] * 4, [{0: torch.rand(1, 8, 8)}] * 2)[0]


def test_sparse_tensors_are_refused():
    real = [(torch.rand(1, 8, 8).to_sparse(),)] * 4
    with pytest.raises(ConfigurationError, match=r"dense, got torch.sparse_coo for 'image'"):
        SyntheticMixDataset(real, [(torch.rand(1, 8, 8),)] * 2, fields=("image",))[0]


def test_a_dict_of_samples_is_no_data_set_but_its_values_are():
    real = {f"n{k}": (torch.rand(1, 8, 8),) for k in range(4)}
    synthetic = [(torch.rand(1, 8, 8),)] * 2
    with pytest.raises(ConfigurationError, match=r"list\(real.values\(\)\)"):
        SyntheticMixDataset(real, synthetic, fields=("image",))
    assert len(SyntheticMixDataset(list(real.values()), synthetic, fields=("image",))) == 4
