from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from fit_helpers import blobs, tiny
from torch.nn import functional

from torchgenaug.recipes import FitOptions
from torchgenaug.recipes.build import build_recipe, resolve_condition
from torchgenaug.recipes.small_volumes import SmallVolumes
from torchgenaug.recipes.state import TrainingState


def weight_gradient(call, images, weight, kind):
    """Of a sum of what a convolution in autocast returns, and the number type that the convolution was computed in."""
    weight = weight.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=kind is not torch.float64), SmallVolumes():
        made = call(images.to(weight.dtype), weight)
    assert made.dtype == (kind if kind is torch.float64 else torch.bfloat16)
    (gradient,) = torch.autograd.grad(made.double().square().sum(), weight)
    return gradient


@pytest.mark.parametrize(
    ("call", "sides", "kernel"),
    [
        (lambda x, w: functional.conv3d(x, w, padding=1), (2, 2, 2), 3),
        (lambda x, w: functional.conv3d(x, w, None, 1, 2), (4, 8, 8), 5),
        (lambda x, w: functional.conv3d(x, weight=w, padding=1), (3, 3, 3), 4),
        (lambda x, w: functional.conv3d(x, w, stride=2, padding=1), (8, 1, 8), 3),
        (lambda x, w: functional.conv_transpose3d(x, w, padding=1), (2, 8, 8), 4),
        (lambda x, w: torch.conv3d(x, w, padding=1), (1, 1, 1), 3),
    ],
)
def test_weights_of_kernels_larger_than_the_volume_have_right_gradients(call, sides, kernel):
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(4, 16, *sides, generator=draw)
    weight = torch.randn(16, 16, *[kernel] * 3, generator=draw) / 20
    torch.full((1 << 16,), float("nan"))  # memory that is used again
    made = weight_gradient(call, images, weight, torch.bfloat16)
    true = weight_gradient(call, images.double(), weight.double(), torch.float64)
    assert (made - true).abs().max() < 0.05 * true.abs().max()


@pytest.mark.parametrize(
    ("sides", "kernel", "exact"), [((2, 8, 8), 3, True), ((4, 4, 4), 3, False), ((8, 8, 8), 1, False)]
)
def test_only_kernels_larger_than_the_volume_are_computed_in_float32(monkeypatch, sides, kernel, exact):
    seen = []
    turned_off = torch.autocast

    def watched(*args, **options):
        seen.append(options.get("enabled"))
        return turned_off(*args, **options)

    with torch.autocast("cpu", torch.bfloat16), SmallVolumes():
        monkeypatch.setattr(torch, "autocast", watched)
        functional.conv3d(torch.ones(1, 1, *sides), torch.ones(1, 1, *[kernel] * 3), padding=kernel // 2)
    assert seen == [False] * exact


@pytest.mark.parametrize(("precision", "within"), [("bf16", True), ("no", False)])
def test_training_in_bfloat16_on_a_cpu_is_within_it(precision, within):
    data = blobs(8, (8, 8))
    options = resolve_condition("dcgan", data, tiny(width=4))
    accelerator = Accelerator(cpu=True)
    run = TrainingState(build_recipe("dcgan", data, options), accelerator, FitOptions(precision=precision))
    assert isinstance(run._exact(), SmallVolumes) == within
