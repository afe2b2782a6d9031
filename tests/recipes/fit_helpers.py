from __future__ import annotations

import torch

from torchgenaug.recipes import Options, TrainingData
from torchgenaug.recipes.data.training_data import TensorSamples
from torchgenaug.types import FieldSpec


def blobs(count=24, spatial=(16, 16), classes=2):
    """Bright discs whose radius is their class, with their masks and a source of inverted contrast."""
    draw = torch.Generator().manual_seed(count)
    grid = torch.stack(torch.meshgrid(*(torch.arange(size) for size in spatial), indexing="ij")).float()
    labels = torch.arange(count) % classes
    centres = torch.stack([torch.tensor(spatial) / 2 + torch.randn(len(spatial), generator=draw) for _ in range(count)])
    distances = (grid[None] - centres.view(count, -1, *[1] * len(spatial))).norm(dim=1, keepdim=True)
    radius = (3 + 2 * labels).view(count, 1, *[1] * len(spatial))
    masks = (distances < radius).long()
    images = torch.sigmoid(radius - distances) * 100
    return TrainingData(
        TensorSamples({"image": images, "mask": masks, "source": 100 - images, "label": labels}),
        {
            "image": FieldSpec((1, *spatial), value_range=(0, 100)),
            "mask": FieldSpec((1, *spatial), torch.int64, kind="label_map", value_range=(0, 1)),
            "source": FieldSpec((1, *spatial), value_range=(0, 100)),
            "label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, classes - 1)),
        },
        tuple(f"blob {k}" for k in range(count)),
        "blobs",
    )


def tiny(**changes):
    return Options(**{"steps": 4, "batch_size": 4, "width": 8, "sampling_steps": 2} | changes)
