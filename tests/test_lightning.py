"""Lightning trains on a mix as on any other data: the same batches, and the same ones after a resume."""

from __future__ import annotations

import pytest
import torch
from by_epoch import ByEpoch, gradients
from torch.utils.data import DataLoader, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from torchgenaug.errors import ConfigurationError, StateMismatchError
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.mixing.loader import SyntheticMixLoader
from torchgenaug.mixing.loader.wrapped import WrappedLoader
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource

lightning = pytest.importorskip("lightning.pytorch")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*num_workers.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
]

SIDE, SIZE, BATCH, EPOCHS = 6, 10, 4, 3
SEQUENCE = SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE)))
IMAGES = gradients(SIZE, SIDE)


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, index):
        self.seen.append((self.current_epoch, index, batch[0].clone()))
        return (self.weight - batch[0].mean()) ** 2

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class Stops(lightning.Callback):
    """Ends the run, with a checkpoint, after some steps: as a job that is preempted."""

    def __init__(self, path, steps):
        self.path, self.steps = path, steps

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if trainer.global_step == self.steps:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def train(make, *, callbacks=(), checkpoint=None, epochs=EPOCHS):
    """The batches that a model got."""
    from torchgenaug.lightning import SetEpoch

    loader = make()
    model = Model()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[SetEpoch(loader), *callbacks],
        logger=False,
        enable_checkpointing=any(isinstance(part, lightning.callbacks.ModelCheckpoint) for part in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader, ckpt_path=checkpoint, weights_only=False)
    return model.seen


def mixed_dataset(loader_class=DataLoader, workers=0, **options):
    def make():
        source = InMemorySource(SEQUENCE, 7)
        mix = SyntheticMixDataset(TensorDataset(IMAGES), source, **{"ratio": 0.3, "fields": ["image"]} | options)
        return loader_class(mix, BATCH, sampler=ByEpoch(SIZE), num_workers=workers, persistent_workers=workers > 0)

    return make


def mixed_loader(generator=False, source=None, **options):
    def make():
        order = {"sampler": ByEpoch(SIZE)}
        if generator:
            order = {"shuffle": True, "generator": torch.Generator().manual_seed(5)}
        loader = DataLoader(TensorDataset(IMAGES), BATCH, **order)
        options_ = {"ratio": 0.3, "mode": "extend", "fields": ["image"]} | options
        return SyntheticMixLoader(loader, source or InMemorySource(SEQUENCE, 7), **options_)

    return make


def by_hand(make):
    loader = make()
    seen = []
    for epoch in range(EPOCHS):
        WrappedLoader(loader).set_epoch(epoch)
        seen += [(epoch, index, batch[0].clone()) for index, batch in enumerate(loader)]
    return seen


def assert_equal_runs(there, here):
    assert [step[:2] for step in there] == [step[:2] for step in here]
    assert all(torch.equal(a[2], b[2]) for a, b in zip(there, here, strict=True))


MAKES = {
    "data set": mixed_dataset(),
    "data set, worker": mixed_dataset(workers=1),
    "loader": mixed_loader(),
    "loader, generator": mixed_loader(generator=True),
}


@pytest.mark.parametrize("name", MAKES)
def test_batches_are_those_of_a_plain_loop(name):
    expected = by_hand(MAKES[name])
    assert len(expected) == EPOCHS * 3
    assert not torch.equal(expected[0][2], expected[3][2])
    assert_equal_runs(expected, train(MAKES[name]))


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("epochs", [1, 2])
def test_goes_on_after_an_epoch(name, epochs, tmp_path):
    expected = by_hand(MAKES[name])
    keep = lightning.callbacks.ModelCheckpoint(tmp_path, save_last=True, save_top_k=0)
    before = train(MAKES[name], callbacks=[keep], epochs=epochs)
    after = train(MAKES[name], callbacks=[keep], checkpoint=tmp_path / "last.ckpt")
    assert_equal_runs(expected, before + after)


IN_THE_MIDDLE = {
    "loader": mixed_loader(),
    "loader, generator": mixed_loader(generator=True),
    "stateful": mixed_dataset(StatefulDataLoader),
    "stateful, worker": mixed_dataset(StatefulDataLoader, workers=1),
}


@pytest.mark.parametrize("name", IN_THE_MIDDLE)
@pytest.mark.parametrize("steps", [2, 4, 5])
def test_goes_on_in_the_middle_of_an_epoch(name, steps, tmp_path):
    expected = by_hand(IN_THE_MIDDLE[name])
    train(IN_THE_MIDDLE[name], callbacks=[Stops(tmp_path / "kept.ckpt", steps)])
    after = train(IN_THE_MIDDLE[name], checkpoint=tmp_path / "kept.ckpt")
    assert_equal_runs(expected[steps:], after)


def test_a_pool_moves_along(tmp_path):
    with SyntheticPool(SEQUENCE, 6, refresh=0.5, refreshes_per_epoch=3, batch_size=3, background=False) as pool:
        expected = by_hand(mixed_loader(source=pool))
        train(mixed_loader(source=pool), callbacks=[Stops(tmp_path / "kept.ckpt", 4)])
        pool.set_epoch(0)
        assert_equal_runs(expected[4:], train(mixed_loader(source=pool), checkpoint=tmp_path / "kept.ckpt"))
        assert pool.epoch == EPOCHS - 1


def test_a_checkpoint_of_another_mix_is_refused(tmp_path):
    train(mixed_loader(), callbacks=[Stops(tmp_path / "kept.ckpt", 2)])
    with pytest.raises(StateMismatchError, match=r"ratio: saved 0\.3, now 0\.4"):
        train(mixed_loader(ratio=0.4), checkpoint=tmp_path / "kept.ckpt")


def test_only_a_mix_has_epochs_to_set():
    from torchgenaug.lightning import SetEpoch

    with pytest.raises(ConfigurationError, match=r"got DataLoader\. Where the mix is .* SetEpoch\(mixed\)"):
        SetEpoch(DataLoader(IMAGES))
    assert SetEpoch(mixed_dataset()().dataset).mix.epoch == 0


class Data(lightning.LightningDataModule):
    """Keeps its mix, or builds it too late; and may validate on it."""

    def __init__(self, *, late=False, validates=False):
        super().__init__()
        self.late, self.validates = late, validates

    def setup(self, stage):
        self.mixed = None if self.late else mixed_loader()()

    def train_dataloader(self):
        return mixed_loader()() if self.late else self.mixed

    def val_dataloader(self):
        return self.mixed if self.validates else DataLoader(TensorDataset(IMAGES), BATCH)


class Validated(Model):
    def validation_step(self, batch, index):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"late": True}, r"must find the mixes before the first batch is read, got one .* self\.mixed = Synthetic"),
        ({"validates": True}, "Validation data must be real, got SyntheticMixLoader"),
    ],
)
def test_finds_mixes_and_refuses_them_in_validation(options, message):
    from torchgenaug.lightning import SetEpoch

    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[SetEpoch()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(ConfigurationError, match=message):
        trainer.fit(Validated(), datamodule=Data(**options))
