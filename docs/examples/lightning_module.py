"""Lightning: a DataModule with a mix, interrupted in the middle of an epoch and resumed to the bit."""

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from torchgenaug import SyntheticMixLoader, SyntheticPool, SyntheticSequence
from torchgenaug.lightning import SetEpoch
from torchgenaug.testing import AnalyticSynthesizer  # stands for a generative model


class Images(pl.LightningDataModule):
    def setup(self, stage):
        real = TensorDataset(torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
        self.real_validation = TensorDataset(torch.rand(8, 1, 8, 8))
        pool = SyntheticPool(SyntheticSequence(AnalyticSynthesizer((8, 8))), capacity=16, batch_size=4)
        loader = DataLoader(real, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(1))
        self.mixed = SyntheticMixLoader(loader, pool, ratio=0.25, fields=["image"])

    def train_dataloader(self):
        return self.mixed

    def val_dataloader(self):
        return DataLoader(self.real_validation, batch_size=8)  # a mix would be refused here


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(64, 1), []

    def training_step(self, batch, index):
        self.seen.append(batch[0].clone())
        return self.layer(batch[0].flatten(1)).square().mean()

    def validation_step(self, batch, index):
        self.log("score", self.layer(batch[0].flatten(1)).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class Interrupt(pl.Callback):
    """A job that is preempted after some steps."""

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if trainer.global_step == 7:
            trainer.save_checkpoint("interrupted.ckpt")
            trainer.should_stop = True


def train(callbacks=(), checkpoint=None):
    pl.seed_everything(0, verbose=False)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=3, callbacks=[SetEpoch(), *callbacks], enable_model_summary=False, **quiet
    )
    model = Model()
    trainer.fit(model, datamodule=Images(), ckpt_path=checkpoint, weights_only=False)
    return model


if __name__ == "__main__":
    whole = train()
    train([Interrupt()])
    resumed = train(checkpoint="interrupted.ckpt")
    assert len(whole.seen) == 15 and len(resumed.seen) == 8
    assert all(torch.equal(a, b) for a, b in zip(whole.seen[7:], resumed.seen, strict=True))
    assert torch.equal(whole.layer.weight, resumed.layer.weight)
    print("resumed to the bit in the middle of epoch 1")
