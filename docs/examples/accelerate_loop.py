"""accelerate, in one process or with ``torchrun --nproc_per_node 2``: every kind of prepared loader, resumed."""

import gc

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, set_seed
from torch.utils.data import DataLoader

from torchgenaug import SyntheticMixDataset, SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource  # stand for a model and a folder of shards

REAL = [{"image": torch.full((1, 8, 8), index / 40), "index": index} for index in range(40)]


def prepare(**options):
    config = DataLoaderConfiguration(split_batches=True, **options)
    accelerator = Accelerator(cpu=True, dataloader_config=config, gradient_accumulation_steps=2)
    set_seed(0)
    source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8))), 16)
    mixed = SyntheticMixDataset(REAL, source, ratio=0.25, fields=["image"])
    loader = DataLoader(mixed, batch_size=8, shuffle=True)
    model = torch.nn.Linear(64, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    return accelerator, mixed, *accelerator.prepare(model, optimizer, loader)


def train(first_epoch=0, skipped=0, **options):
    accelerator, mixed, model, optimizer, loader = prepare(**options)
    seen, epochs = [], []
    for epoch in range(first_epoch, 3):
        batches = accelerator.skip_first_batches(loader, skipped) if epoch == first_epoch else loader
        # For a run that goes on: accelerate counts from 0 again, and passes the epoch to the sampler or to the mix.
        for part in (loader, batches, mixed):
            part.set_epoch(epoch)
        for batch in batches:
            with accelerator.accumulate(model):
                accelerator.backward(model(batch["image"].flatten(1)).square().mean())
                optimizer.step()
                optimizer.zero_grad()
            seen.append(batch["image"].clone())
        epochs.append(mixed.epoch)
    assert epochs == list(range(first_epoch, 3)), epochs
    return seen


if __name__ == "__main__":
    for options in (
        {"use_seedable_sampler": True},
        {"use_seedable_sampler": True, "dispatch_batches": True},
    ):
        whole = train(**options)
        rest = train(first_epoch=1, skipped=2, **options)
        assert len(whole) == 15 and len(rest) == 8, (len(whole), len(rest))
        assert all(torch.equal(a, b) for a, b in zip(whole[7:], rest, strict=True)), options
    gc.collect()  # a model in a reference cycle that outlives its group can abort the process at its end
    Accelerator().end_training()
    print("resumed to the bit")
