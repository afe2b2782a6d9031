"""A study of noisy patterns that takes a fraction of a second."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, TensorDataset

from torchgenaug.study import Split, Study, mixed, real_repeated

CLASSES, FIELDS = 3, ("image", "label")


class Images(TensorDataset):
    """Noisy images of three patterns; ids and patients are stated."""

    def __init__(self, count, seed, patients=None):
        draw = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % CLASSES
        patterns = torch.randn(CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(99))
        super().__init__(patterns[labels] + 2.5 * torch.randn(count, 1, 8, 8, generator=draw), labels)
        self.ids = [f"{seed}-{k}" for k in range(count)]
        self.patients = self.ids if patients is None else patients


def train(dataset, seed, steps):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for epoch in range(steps):  # a training set is one batch
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(epoch)
        order = torch.Generator().manual_seed(1000 * seed + epoch)
        images, labels = next(iter(DataLoader(dataset, 6, shuffle=True, generator=order)))
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def score(model, dataset):
    images, labels = dataset.tensors
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def split(name="all", shift=0):
    return Split(name, Images(6, shift), Images(90, shift + 1), Images(300, shift + 2))


def relabelled(data):
    """The same images under the wrong classes."""
    images, labels = data.tensors
    return TensorDataset(images, (labels + 1) % CLASSES)


def study(arms=None, **options):
    return Study(
        options.pop("splits", split()),
        arms or [real_repeated(), mixed(Images(300, 7), 0.5, fields=FIELDS)],
        options.pop("train", train),
        options.pop("score", score),
        **{"steps": 20, "seeds": 3, "metric": "accuracy", **options},
    )
