"""One training step in numbers: gradients are averaged over micro batches, then clipped; weights are averaged."""

from __future__ import annotations

import itertools

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from torchgenaug.recipes import FitOptions
from torchgenaug.recipes.state import TrainingState


class Pull:
    """The gradient of its single weight is the mean of the batch; plain gradient descent of rate 1."""

    averaged = frozenset({"net"})

    def __init__(self):
        self.networks = {"net": nn.BatchNorm1d(1)}  # a weight, a bias and buffers
        self.seen = []

    def optimizers(self):
        return {"net": torch.optim.SGD([self.networks["net"].weight], lr=1.0)}

    def train_step(self, batch, update, progress):
        network = self.networks["net"]
        network.running_mean += 1
        loss = (network.weight * batch["image"].mean()).sum()
        update({"net": loss})
        self.seen.append(float(torch.rand(())))
        return {"loss": loss}


def trained(pulls, **options):
    """The weight after each step, the state, and the recipe."""
    recipe = Pull()
    with torch.random.fork_rng(devices=[]):
        state = TrainingState(recipe, Accelerator(cpu=True), FitOptions(**options))
        batches, weights = iter([{"image": torch.full((2, 1), pull)} for pull in pulls]), []
        for _ in range(len(pulls) // state.options.accumulate):
            state.train_step(batches, 0.0)
            weights.append(recipe.networks["net"].weight.item())
    return weights, state, recipe


def test_large_gradients_are_clipped_and_small_ones_are_not():
    weights, _, _ = trained([100.0, 0.25, -0.25], max_grad_norm=0.5)
    assert weights == pytest.approx([1 - 0.5, 0.25, 0.5], rel=1e-5)


def test_a_step_takes_the_mean_gradient_of_its_micro_batches():
    weights, state, _ = trained([1.0, 3.0, 0.0, -1.0], accumulate=2, max_grad_norm=100.0)
    assert weights == pytest.approx([1 - 2, -1 + 0.5])
    assert state.step == 2


def test_the_mean_is_clipped_and_not_its_parts():
    weights, _, _ = trained([10.0, -9.0], accumulate=2, max_grad_norm=1.0)
    assert weights == pytest.approx([0.5])


@pytest.mark.parametrize("decay", [0.99, 0.2])
def test_the_average_follows_the_weights_with_a_decay_that_warms_up(decay):
    """a_k = d_k a_(k-1) + (1 - d_k) w_k, d_k = min(decay, (1 + k) / (10 + k)), from the first weights on."""
    weights, state, recipe = trained([1.0, 1.0, -3.0, 0.5], ema_decay=decay, max_grad_norm=100.0)
    expected = 1.0
    for step, weight in zip(itertools.count(1), weights, strict=False):
        kept = min(decay, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * weight
    average = state.averages["net"]
    assert average.weight.item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(average.running_mean, recipe.networks["net"].running_mean)
    assert average.running_mean.item() == 4


def test_each_micro_batch_has_random_numbers_of_its_own_and_of_its_seed():
    one, again, other = (trained([0.0] * 4, accumulate=2, seed=seed)[2].seen for seed in (0, 0, 1))
    assert one == again
    assert len({*one, *other}) == 8


class TwoLosses:
    """Two weights with an optimizer each, whose gradients are 3 and 5."""

    averaged = frozenset()

    def __init__(self):
        self.networks = {name: nn.Linear(1, 1, bias=False) for name in ("one", "two")}

    def optimizers(self):
        return {name: torch.optim.SGD(net.parameters(), lr=1.0) for name, net in self.networks.items()}

    def train_step(self, batch, update, progress):
        losses = {
            name: factor * net.weight.sum() for (name, net), factor in zip(self.networks.items(), (3, 5), strict=True)
        }
        update(losses)
        return losses


@pytest.mark.parametrize("accumulate", [1, 2])
def test_half_precision_scales_the_gradients_of_two_losses_once(accumulate):
    recipe = TwoLosses()
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=65536.0, growth_interval=1)
    before = {name: net.weight.item() for name, net in recipe.networks.items()}
    with torch.random.fork_rng(devices=[]):
        state = TrainingState(recipe, accelerator, FitOptions(accumulate=accumulate, max_grad_norm=100.0))
        for _ in range(2):
            state.train_step(iter([{"image": torch.zeros(1)}] * accumulate), 0.0)
    moved = {name: before[name] - net.weight.item() for name, net in recipe.networks.items()}
    assert moved == {"one": pytest.approx(6.0), "two": pytest.approx(10.0)}
    assert accelerator.scaler.get_scale() == 65536.0 * 4  # changed once a step
