"""MONAI: a SupervisedTrainer on cached images and a mix, interrupted in the middle of an epoch and resumed."""

import numpy as np
import torch
from ignite.engine import Events
from monai.data import CacheDataset, DataLoader, decollate_batch
from monai.engines import SupervisedTrainer
from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped

from torchgenaug import SyntheticMixLoader, SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource  # stand for a model and a folder of shards
from torchgenaug.trainers.ignite import SetEpoch

VOLUMES = np.random.default_rng(0).random((24, 8, 8), np.float32)


def train(stop_after=None, state=None):
    torch.manual_seed(0)
    load = Compose([EnsureChannelFirstd("image", channel_dim="no_channel"), EnsureTyped("image")])
    real = CacheDataset([{"image": volume} for volume in VOLUMES], load, progress=False)
    loader = DataLoader(real, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(1))
    source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8))), 16)
    mixed = SyntheticMixLoader(loader, source, ratio=0.25, fields=["image"])
    network, seen = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1)), []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=mixed,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.01),
        loss_function=lambda output, _: output.square().mean(),
        prepare_batch=lambda batch, device, *_, **__: (batch["image"].to(device), None),
        epoch_length=6,
        train_handlers=[SetEpoch()],
    )
    kept = {"trainer": trainer, "network": network, "mixed": mixed}  # as MONAI's CheckpointSaver takes them
    if state is not None:
        for name, part in kept.items():
            part.load_state_dict(state[name])

    @trainer.on(Events.ITERATION_COMPLETED)
    def note(engine):
        seen.append(engine.state.batch[0]["image"].clone() if isinstance(engine.state.batch, list) else None)
        if engine.state.iteration == stop_after:
            engine.terminate()

    trainer.run()
    return seen, network, {name: part.state_dict() for name, part in kept.items()}, mixed


if __name__ == "__main__":
    whole, network, _, mixed = train()
    assert mixed.epoch == 2
    _, _, state, _ = train(stop_after=8)
    rest, again, _, _ = train(state=state)
    assert len(whole) == 18 and len(rest) == 10, (len(whole), len(rest))
    assert all(torch.equal(a, b) for a, b in zip(whole[8:], rest, strict=True))
    assert torch.equal(network[1].weight, again[1].weight)
    samples = decollate_batch(next(iter(mixed)))
    assert len(samples) == 4 and all(sample["image"].affine.shape == (4, 4) for sample in samples)
    print("resumed to the bit in the middle of epoch 1")
