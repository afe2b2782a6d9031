"""Nothing synthetic passes into a validation slot, however it is wrapped."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from torchgenaug import SyntheticMixDataset, SyntheticMixLoader, SyntheticSequence
from torchgenaug.errors import ConfigurationError
from torchgenaug.sources.in_memory import InMemorySource
from torchgenaug.testing import AnalyticSynthesizer
from torchgenaug.trust import validation_only

SOURCE = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8))), 4)
REAL = TensorDataset(SOURCE.read(np.arange(4))["image"])


def mix(**arguments):
    return SyntheticMixDataset(REAL, SOURCE, 0.5, fields=("image",), **arguments)


class Own(Dataset):
    def __init__(self, inner):
        self.base = inner

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.base[index]


WRAPPINGS = {
    "a class of the user's": Own,
    "alone": lambda part: part,
    "Subset": lambda part: Subset(part, [0]),
    "ConcatDataset": lambda part: ConcatDataset([REAL, part]),
    "DataLoader": lambda part: DataLoader(part),
    "list of loaders": lambda part: [DataLoader(REAL), DataLoader(part)],
    "dict of sets": lambda part: {"real": REAL, "other": part},
    "Lightning": lambda part: SimpleNamespace(val_dataloaders=[DataLoader(part)]),
    "Hugging Face": lambda part: SimpleNamespace(eval_dataset=part),
    "MONAI": lambda part: SimpleNamespace(data_loader=DataLoader(part)),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("kind", ["mix", "source"])
def test_synthetic_samples_are_refused(wrapping, kind):
    with pytest.raises(ConfigurationError, match="must hold real samples only"):
        validation_only(WRAPPINGS[wrapping](mix() if kind == "mix" else SOURCE))


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_real_samples_pass_unchanged(wrapping):
    wrapped = WRAPPINGS[wrapping](REAL)
    assert validation_only(wrapped) is wrapped


def test_a_mixing_loader_is_refused():
    with pytest.raises(ConfigurationError, match="SyntheticMixLoader"):
        validation_only(SyntheticMixLoader(DataLoader(REAL), SOURCE, 0.5, fields=("image",)))


def test_samples_with_provenance_are_refused():
    with pytest.raises(ConfigurationError, match="is_synthetic"):
        validation_only([{"image": torch.zeros(1, 4, 4), "is_synthetic": True}])
    assert validation_only([{"image": torch.zeros(1, 4, 4), "is_synthetic": False}])


def test_lightning_refuses_a_mix_in_its_validation_slot():
    lightning = pytest.importorskip("torchgenaug.lightning")
    callback = lightning.SetEpoch(mix())
    callback.on_validation_start(SimpleNamespace(val_dataloaders=DataLoader(REAL)), None)
    with pytest.raises(ConfigurationError, match=r"must be real|real samples only"):
        callback.on_validation_start(SimpleNamespace(val_dataloaders=DataLoader(mix())), None)
    with pytest.raises(ConfigurationError, match=r"must be real|real samples only"):
        callback.on_test_start(SimpleNamespace(test_dataloaders=[DataLoader(SOURCE)]), None)
