from __future__ import annotations

import pytest
import torch
from fit_helpers import blobs

from torchgenaug.recipes.families.structure import edge_distance, similarity_distance


@pytest.mark.parametrize("distance", [edge_distance, similarity_distance])
@pytest.mark.parametrize("spatial", [(16, 16), (12, 12, 12)])
def test_contrast_does_not_matter_and_place_does(distance, spatial):
    image = torch.stack([blobs(spatial=spatial).samples[k]["image"] for k in range(4)]) / 50 - 1
    bent = 1 - 2 * ((image + 1) / 2) ** 1.3  # inverted, and not linearly
    elsewhere = -image.roll(4, 2)
    assert distance(image, image) < 1e-4
    assert (distance(-image, image) - distance(image, image)).abs() < 1e-5
    assert distance(bent, image) < 0.35 * distance(elsewhere, image)
    flat = torch.zeros_like(image).requires_grad_()
    distance(flat + 0.01 * image, image).backward()
    assert flat.grad.isfinite().all()
    assert flat.grad.abs().max() > 0


def test_edges_that_the_source_lacks_count():
    flat = torch.zeros(1, 1, 8, 8)
    edge = flat.clone()
    edge[..., 4:] = 1
    assert edge_distance(edge, flat) > 0.2
    assert edge_distance(flat, edge) > 0.2
    assert edge_distance(flat, flat) < 1e-6
