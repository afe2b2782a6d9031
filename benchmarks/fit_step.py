"""A step of `fit` against the same networks and losses in a training loop written by hand, family by family.

By hand: a `DataLoader` over the tensors in memory, the family's losses, ``zero_grad``, ``backward`` for the parameters
that the optimizer owns, clipping, the same Adam, and torch's own `AveragedModel`; and the same without clipping and
averages. `fit` besides makes every batch a function of (seed, step), seeds each step, scales, and sums losses for its
report. Throughput over the loop's of the same round; what is compared is the processor time of one thread. The same
loop built a second time shows what chance does: where networks come to lie in memory changes a step by some percent,
so that all are built anew several times.
`training_cost` compares with loops that others published.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import Timing, interleaved, publish, throughput_ratios
from torchgenaug import FieldSpec
from torchgenaug.recipes import FitOptions, Options, TrainingData
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe, resolve_condition
from torchgenaug.recipes.data.training_data import TensorSamples
from torchgenaug.recipes.recipe import Recipe
from torchgenaug.recipes.state import TrainingState

SIDE, COUNT = 32, 256
BATCHES = {"ddpm": 16, "vae": 32, "dcgan": 32, "pix2pix": 16, "regression": 16}
BASELINE, AGAIN = "by hand, with clipping and averages", "the same loop, built again"


class InMemory(Dataset[dict[str, Tensor]]):
    """What people write who have tensors."""

    def __init__(self, samples: TensorSamples, count: int) -> None:
        self.samples, self.count = samples, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(self.samples[index])


def pairs() -> TrainingData:
    """Noise as images and as their sources: what they show does not change the time of a step."""
    draw = torch.Generator().manual_seed(0)
    shape = (1, SIDE, SIDE)
    fields = {name: FieldSpec(shape, value_range=(-1, 1)) for name in ("image", "source")}
    tensors = {name: torch.rand((COUNT, *shape), generator=draw) * 2 - 1 for name in fields}
    return TrainingData(TensorSamples(tensors), fields, tuple(map(str, range(COUNT))), "noise")


def recipe_of(family: str, data: TrainingData, width: int) -> tuple[Recipe, Options]:
    torch.manual_seed(0)
    options = resolve_condition(family, data, Options(batch_size=BATCHES[family], width=width, steps=1000))
    return build_recipe(family, data, options), options


def fitted(family: str, data: TrainingData, width: int) -> Callable[[], Any]:
    """A step as `fit` takes it."""
    recipe, options = recipe_of(family, data, width)
    state = TrainingState(recipe, Accelerator(cpu=True), FitOptions(augment=False))
    batches = training_batches(data, options.batch_size or 1)
    return lambda: state.losses.add(state.train_step(batches, 0.0))


def by_hand(family: str, data: TrainingData, width: int, *, careful: bool) -> Callable[[], Any]:
    """A step of the plain loop; `careful` with clipping and averages."""
    recipe, options = recipe_of(family, data, width)
    for network in recipe.networks.values():
        network.train()
    optimizers = recipe.optimizers()
    owned = {
        name: [each for group in optimizer.param_groups for each in group["params"]]
        for name, optimizer in optimizers.items()
    }
    ema: Any = get_ema_multi_avg_fn(0.999)  # type: ignore[no-untyped-call]
    averages = [
        (AveragedModel(recipe.networks[name], multi_avg_fn=ema), recipe.networks[name])
        for name in sorted(recipe.averaged)
    ]
    loader = DataLoader(InMemory(data.samples, len(data)), options.batch_size, shuffle=True)  # type: ignore[arg-type]
    batches: Iterator[Any] = itertools.chain.from_iterable(loader for _ in itertools.count())

    def update(losses: Mapping[str, Tensor]) -> None:
        for left, (name, loss) in zip(reversed(range(len(losses))), losses.items(), strict=True):
            loss.backward(inputs=owned[name], retain_graph=left > 0)  # type: ignore[no-untyped-call]
        for name in losses:
            if careful:
                nn.utils.clip_grad_norm_(owned[name], 1.0)
            optimizers[name].step()
            optimizers[name].zero_grad()

    def step() -> None:
        losses = recipe.train_step(next(batches), update, 0.0)
        if careful:
            for average, network in averages:
                average.update_parameters(network)
        for loss in losses.values():
            loss.item()

    return step


def compared(family: str, data: TrainingData, width: int, builds: int, rounds: int) -> dict[str, Any]:
    """Throughputs of a family's steps over those of the loop by hand."""
    seconds: dict[str, list[float]] = {}
    for _ in range(builds):
        takers = {
            BASELINE: by_hand(family, data, width, careful=True),
            "by hand, without": by_hand(family, data, width, careful=False),
            AGAIN: by_hand(family, data, width, careful=True),
            "fit": fitted(family, data, width),
        }
        for name, timing in interleaved(takers, rounds=rounds, warm_up=2, clock=time.process_time).items():
            seconds.setdefault(name, []).extend(timing.seconds)
    timings = {name: Timing(each) for name, each in seconds.items()}
    return throughput_ratios(timings, dict.fromkeys(timings, BATCHES[family]), BASELINE)


def measure(*, quick: bool = False) -> dict[str, Any]:
    builds, rounds, width = (1, 1, 8) if quick else (5, 9, 16)
    data, families = pairs(), list(BATCHES)[: 1 if quick else None]
    results = {family: compared(family, data, width, builds, rounds) for family in families}
    return publish("fit_step", results, quick=quick)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
