"""TorchIO: volumes and patches of them from real and synthetic subjects; a SubjectsLoader resumes to the bit."""

from itertools import islice

import torch
import torchio as tio

from torchgenaug import MixDistributedSampler, SyntheticMixDataset

SMALL_MOVES = tio.RandomAffine(scales=0.1, degrees=10)  # drawn anew for each (seed, epoch, index)


def subjects(count, seed):  # stand for NIfTI files, and for the volumes of a generative model
    generator = torch.Generator().manual_seed(seed)
    volumes = [torch.rand(1, 12, 12, 12, generator=generator) for _ in range(count)]
    return tio.SubjectsDataset([tio.Subject(image=tio.ScalarImage(tensor=volume)) for volume in volumes])


def train(first_epoch=0, skipped=0):
    mixed = SyntheticMixDataset(subjects(12, 0), subjects(6, 1), ratio=0.25, transform=SMALL_MOVES)
    loader = tio.SubjectsLoader(mixed, batch_size=3, sampler=MixDistributedSampler(mixed, 1, 0))
    seen = []
    for epoch in range(first_epoch, 3):
        loader.sampler.set_epoch(epoch)
        batches = islice(loader, skipped if epoch == first_epoch else 0, None)
        seen += [batch["image"][tio.DATA].clone() for batch in batches]
    return seen


def patches():
    mixed = SyntheticMixDataset(subjects(12, 0), subjects(6, 1), ratio=0.25)
    queue = tio.Queue(mixed, 16, 4, tio.UniformSampler(6), num_workers=0)  # its loader knows no epochs
    sizes = [batch["image"][tio.DATA].shape for _ in range(2) for batch in tio.SubjectsLoader(queue, batch_size=8)]
    return mixed, sizes


if __name__ == "__main__":
    whole, rest = train(), train(first_epoch=1, skipped=2)
    assert len(whole) == 12 and len(rest) == 6
    assert all(torch.equal(a, b) for a, b in zip(whole[6:], rest, strict=True))
    mixed, sizes = patches()
    assert sizes == [(8, 1, 6, 6, 6)] * 12 and mixed.epoch == 1
    print("resumed to the bit in the middle of epoch 1")
