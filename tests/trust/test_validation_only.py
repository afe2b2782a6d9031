"""Nothing synthetic passes into a validation slot, however it is wrapped."""

from __future__ import annotations

import functools
import operator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from torchgenaug import SyntheticMixDataset, SyntheticMixLoader, SyntheticSequence
from torchgenaug.errors import ConfigurationError
from torchgenaug.sources.in_memory import InMemorySource
from torchgenaug.testing import AnalyticSynthesizer
from torchgenaug.trainers.mixes import MixesOf
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


class Iterating:
    """A loader that is no class of torch."""

    def __init__(self, inner):
        self.inner = inner

    def __iter__(self):
        return iter(self.inner)


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
    "iterable of the user's": lambda part: Iterating(part),
    "closure": lambda part: Own(lambda index: part[index]),
    "bound method": lambda part: Own(part.__getitem__),
    "partial": lambda part: Own(functools.partial(operator.getitem, part)),
    "iterator": lambda part: zip(REAL, part, strict=True),
    "generator": lambda part: (sample for sample in part),
    "ten subsets": lambda part: functools.reduce(lambda inner, _: Subset(inner, [0]), range(10), part),
    "behind many": lambda part: [*[REAL] * 80, part],
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


@pytest.mark.parametrize("wrap", [lambda part: part, Own, Iterating, lambda part: Own({"model": part})])
@pytest.mark.parametrize("kind", ["sequence", "synthesizer"])
def test_what_generates_samples_is_refused(wrap, kind):
    sequence = SyntheticSequence(AnalyticSynthesizer((8, 8)))
    with pytest.raises(ConfigurationError, match="which generates samples"):
        validation_only(wrap(sequence if kind == "sequence" else sequence.synthesizer))


def test_a_table_that_says_so_is_refused():
    class Table:
        """As `datasets.Dataset` has it."""

        def __init__(self, stated):
            self.column_names, self.stated = ["image", "is_synthetic"], stated

        def __getitem__(self, column):
            return self.stated

    for stated in ([False, True], torch.tensor([False, True])):
        with pytest.raises(ConfigurationError, match="is_synthetic"):
            validation_only(Own(Table(stated)))
        with pytest.raises(ConfigurationError, match="is_synthetic"):
            validation_only([{"is_synthetic": stated}])
    assert validation_only(Own(Table([False, False])))
    assert validation_only([{"is_synthetic": torch.tensor([False, False])}])


@pytest.mark.parametrize("thing", ["scans", 3, SimpleNamespace(val_dataloaders=None), SimpleNamespace()])
def test_what_cannot_be_looked_at_does_not_pass(thing):
    with pytest.raises(ConfigurationError, match="nothing in it that could be looked at"):
        validation_only(thing)


def test_trainers_find_mixes_behind_functions_and_iterables():
    mixed = mix()
    for wrapped in (Iterating(mixed), Own(mixed.__getitem__), Iterating(Own(lambda index: mixed[index]))):
        assert MixesOf(wrapped).mixes == [mixed]


@pytest.mark.parametrize("wrap", [Own, Iterating, lambda part: DataLoader(Own(part))])
def test_trainers_refuse_what_generates_samples(wrap):
    with pytest.raises(ConfigurationError, match="got SyntheticSequence"):
        MixesOf(wrap(SyntheticSequence(AnalyticSynthesizer((8, 8))))).refuse("validation")


def test_a_method_that_collates_is_no_data_set():
    class Training(Own):
        def collate(self, samples):
            return samples

    training = Training(mix())
    loader = DataLoader(REAL, collate_fn=training.collate, worker_init_fn=training.collate)
    assert validation_only(loader) is loader
    assert not MixesOf(loader).mixes
    MixesOf(loader).refuse("validation")
