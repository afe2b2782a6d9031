"""FSDP: ``torchrun --nproc_per_node 2 fsdp_loop.py``; weights are sharded, and each process gets the exact ratio."""

import gc

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from torchgenaug import MixDistributedSampler, SyntheticMixDataset, SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer, InMemorySource  # stand for a model and a folder of shards

REAL = TensorDataset(torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
WHOLE = StateDictOptions(full_state_dict=True)


def train(state=None, stop_after=None):
    torch.manual_seed(0)
    source = InMemorySource(SyntheticSequence(AnalyticSynthesizer((8, 8))), 16)
    mixed = SyntheticMixDataset(REAL, source, ratio=0.25, fields=["image"])
    sampler = MixDistributedSampler(mixed, dist.get_world_size(), dist.get_rank())
    loader = StatefulDataLoader(mixed, batch_size=5, sampler=sampler)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4), torch.nn.Linear(4, 1))
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    first_epoch, seen = 0, []
    if state is not None:
        first_epoch = state["epoch"]
        set_model_state_dict(model, state["model"], options=WHOLE)
        loader.load_state_dict(state["loader"])
    for epoch in range(first_epoch, 3):
        sampler.set_epoch(epoch)
        for (images,) in loader:
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
            seen.append(images.clone())
            if len(seen) == stop_after:
                weights = get_model_state_dict(model, options=WHOLE)
                return {"epoch": epoch, "model": weights, "loader": loader.state_dict()}
    return seen, get_model_state_dict(model, options=WHOLE)


if __name__ == "__main__":
    alone = {} if dist.is_torchelastic_launched() else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group("gloo", **alone)
    whole, weights = train()
    done = len(whole) // 3 + 2  # in the middle of epoch 1
    state = train(stop_after=done)
    rest, again = train(state)
    assert all(torch.equal(a, b) for a, b in zip(whole[done:], rest, strict=True))
    gc.collect()  # a model in a reference cycle that outlives its group can abort the process at its end
    dist.destroy_process_group()
    print("resumed to the bit in the middle of epoch 1")
