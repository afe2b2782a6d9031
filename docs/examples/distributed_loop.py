"""Plain DDP: ``torchrun --nproc_per_node 2 distributed_loop.py``; each process gets the exact ratio."""

import gc

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from torchgenaug import MixDistributedSampler, SyntheticMixDataset, SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource  # stand for a model and a folder of shards

REAL = TensorDataset(torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)))


def build():
    source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8))), 16)
    mixed = SyntheticMixDataset(REAL, source, ratio=0.25, fields=["image"])
    sampler = MixDistributedSampler(mixed, dist.get_world_size(), dist.get_rank())
    return mixed, sampler, StatefulDataLoader(mixed, batch_size=5, sampler=sampler)


def train(state=None, stop_after=None):
    torch.manual_seed(0)
    mixed, sampler, loader = build()
    model = DistributedDataParallel(torch.nn.Linear(64, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    first_epoch, seen = 0, []
    if state is not None:
        first_epoch = state["epoch"]
        model.load_state_dict(state["model"])
        loader.load_state_dict(state["loader"])
    for epoch in range(first_epoch, 3):
        sampler.set_epoch(epoch)
        num_synthetic = mixed.plan.is_synthetic(sampler.indices(epoch), epoch).sum()
        assert num_synthetic == 10 // dist.get_world_size()  # exact in each process
        for (images,) in loader:
            optimizer.zero_grad()
            model(images.flatten(1)).square().mean().backward()
            optimizer.step()
            seen.append(images.clone())
            if len(seen) == stop_after:
                return {"epoch": epoch, "model": model.state_dict(), "loader": loader.state_dict()}
    return seen


if __name__ == "__main__":
    alone = {} if dist.is_torchelastic_launched() else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group("gloo", **alone)
    whole = train()
    steps = 40 // 5 // dist.get_world_size()
    done = steps + 2  # in the middle of epoch 1
    rest = train(train(stop_after=done))
    assert len(whole) == 3 * steps and len(rest) == len(whole) - done
    assert all(torch.equal(a, b) for a, b in zip(whole[done:], rest, strict=True))
    gc.collect()  # a model in a reference cycle that outlives its group can abort the process at its end
    dist.destroy_process_group()
    print("resumed to the bit in the middle of epoch 1")
