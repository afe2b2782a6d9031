"""accelerate prepares loaders of mixed data as any other: the same batches, and the same ones after a resume."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.mixing.loader import SyntheticMixLoader
from torchgenaug.pool import SyntheticPool
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer

SIDE, SIZE, BATCH, EPOCHS = 6, 10, 4, 3
SEQUENCE = SyntheticSequence(AnalyticSynthesizer((SIDE, SIDE)))
IMAGES = torch.linspace(0, 0.9, SIDE * SIDE).reshape(1, 1, SIDE, SIDE) + torch.linspace(0, 0.1, SIZE).reshape(
    -1, 1, 1, 1
)


@pytest.fixture
def pool():
    with SyntheticPool(SEQUENCE, 6, refresh=0.5, batch_size=3, background=False) as pool:
        yield pool


def over_dataset(pool, workers=0):
    mix = SyntheticMixDataset(TensorDataset(IMAGES), pool, ratio=0.3, fields=["image"])
    return DataLoader(mix, BATCH, num_workers=workers, persistent_workers=workers > 0)


def by_hand(pool):
    loader = over_dataset(pool)
    seen = []
    for epoch in range(EPOCHS):
        loader.dataset.set_epoch(epoch)
        seen += [batch[0] for batch in loader]
    return seen


def step(accelerator, model, optimizer, batch):
    loss = model(batch.flatten(1)).square().mean()
    accelerator.backward(loss)
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_prepared_loader_over_a_mixed_data_set(pool, workers):
    expected = by_hand(pool)
    pool.set_epoch(0)
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(SIDE * SIDE, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    model, optimizer, loader = accelerator.prepare(model, optimizer, over_dataset(pool, workers))
    seen = []
    for _ in range(EPOCHS):
        for (batch,) in loader:
            step(accelerator, model, optimizer, batch)
            seen.append(batch)
    assert len(seen) == 3 * EPOCHS
    assert all(torch.equal(a, b) for a, b in zip(expected, seen, strict=True))


@pytest.mark.parametrize("done", range(1, 3 * EPOCHS))
def test_it_goes_on_where_it_was(pool, done):
    """The recipe: tell the loader the epoch, and skip the batches that were seen."""
    expected = by_hand(pool)
    pool.set_epoch(0)
    accelerator = Accelerator(cpu=True)
    loader = accelerator.prepare(over_dataset(pool))
    first, skipped = divmod(done, 3)
    seen = []
    for epoch in range(first, EPOCHS):
        rest = accelerator.skip_first_batches(loader, skipped) if epoch == first and skipped else loader
        rest.set_epoch(epoch)
        seen += [batch[0] for batch in rest]
    assert all(torch.equal(a, b) for a, b in zip(expected[done:], seen, strict=True))


def test_a_mix_over_a_prepared_loader_trains_and_goes_on(pool, tmp_path):
    def mix_of(accelerator):
        loader = DataLoader(TensorDataset(IMAGES), BATCH, shuffle=True, generator=torch.Generator().manual_seed(5))
        mix = SyntheticMixLoader(accelerator.prepare(loader), pool, ratio=0.3, fields=["image"])
        accelerator.register_for_checkpointing(mix)
        return accelerator.prepare(mix)

    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(SIDE * SIDE, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    model, optimizer = accelerator.prepare(model, optimizer)
    mix, seen = mix_of(accelerator), []
    for epoch in range(EPOCHS):
        mix.set_epoch(epoch)
        for (batch,) in mix:
            step(accelerator, model, optimizer, batch)
            seen.append(batch.clone())
            if len(seen) == 4:
                accelerator.save_state(tmp_path)
    pool.set_epoch(0)
    again = Accelerator(cpu=True)
    mix = mix_of(again)
    model = torch.nn.Linear(SIDE * SIDE, 1)
    again.prepare(model, torch.optim.SGD(model.parameters(), 0.01))
    again.load_state(tmp_path)
    rest = []
    for epoch in range(mix.epoch, EPOCHS):
        mix.set_epoch(epoch)
        rest += [batch.clone() for (batch,) in mix]
    assert all(torch.equal(a, b) for a, b in zip(seen[4:], rest, strict=True))
