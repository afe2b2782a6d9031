"""Training cost: steps of `fit` against the training loops that diffusers and MONAI publish, same network and batch.

- 2D: ``examples/unconditional_image_generation/train_unconditional.py`` of diffusers, with its average of the weights;
- 3D: the loop of MONAI's tutorial ``generation/3d_ddpm/3d_ddpm_tutorial.ipynb``, which averages nothing.

All contestants take the same steps in every round. `fit` is run without its augmentation, which neither of the others
has, and with it. Images are in memory. `fit` also weighs noise levels, clips gradients, averages the weights and sums
losses; a ratio of 1 means that this costs nothing beside the network. What is compared is the processor time of one
thread, which other work on the machine changes less than the time that passes.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.harness import publish
from torchgenaug import FieldSpec
from torchgenaug.recipes import FitOptions, Options, TrainingData
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe
from torchgenaug.recipes.data.training_data import TensorSamples
from torchgenaug.recipes.state import TrainingState


def measure(*, quick: bool = False) -> None:
    """Images per processor second of `fit` over those of each loop, in one run."""
    rounds, steps = (1, 1) if quick else (7, 1)
    results: dict[str, Any] = {}
    cases = [("2D, diffusers", (1, 32, 32), 16, diffusers_loop), ("3D, MONAI", (1, 24, 24, 24), 2, monai_loop)]
    for name, shape, batch_size, theirs in cases:
        shape = tuple(min(size, 16) for size in shape) if quick else shape
        data = _images(shape, 64)
        options = Options(batch_size=batch_size, width=8 if quick else 16, steps=1000)
        plain, net = fit_steps(data, options, augment=False)
        contestants = {
            "theirs": _repeat(theirs(copy.deepcopy(net), data, batch_size).step, steps),
            "fit": _repeat(plain, steps),
            "fit, augmenting": _repeat(fit_steps(data, options, augment=True)[0], steps),
        }
        seconds = _cpu_seconds(contestants, rounds)
        results[name] = {
            "shape": list(shape),
            "batch_size": batch_size,
            "million_parameters": sum(each.numel() for each in net.parameters()) / 1e6,
            "images_per_cpu_s": {key: steps * batch_size / statistics.median(each) for key, each in seconds.items()},
            "ratio": {
                key: _quartiles([a / b for a, b in zip(seconds["theirs"], each, strict=True)])
                for key, each in seconds.items()
                if key != "theirs"
            },
        }
    publish("training_cost", results, quick=quick)


def fit_steps(
    data: TrainingData, options: Options, *, augment: bool, accelerator: Accelerator | None = None
) -> tuple[Callable[[], Any], nn.Module]:
    """A step as `fit` takes it, and the network that it trains; on the CPU without an accelerator."""
    torch.manual_seed(0)
    recipe, accelerator = build_recipe("ddpm", data, options), accelerator or Accelerator(cpu=True)
    precision: Any = accelerator.mixed_precision
    state = TrainingState(recipe, accelerator, FitOptions(augment=augment, precision=precision))
    batches = training_batches(data, options.batch_size or 1, augment=augment)
    return lambda: state.losses.add(state.train_step(batches, 0.0)), recipe.networks["unet"]


class Loop(NamedTuple):
    """A training loop: `step` takes one step, `trained` returns the network that would be sampled."""

    step: Callable[[], Any]
    trained: Callable[[], nn.Module]


def diffusers_loop(
    model: Any, data: TrainingData, batch_size: int, rate: float = 1e-4, accelerator: Accelerator | None = None
) -> Loop:
    """Training as examples/unconditional_image_generation/train_unconditional.py of diffusers does."""
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    accelerator, scheduler = accelerator or Accelerator(cpu=True), DDPMScheduler(num_train_timesteps=1000)
    average = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True)
    average.to(accelerator.device)
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.95, 0.999), weight_decay=1e-6)
    rates: Any = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=500, num_training_steps=1000)
    loader: Any = DataLoader(_Images(data), batch_size, shuffle=True)
    model, optimizer, loader, rates = accelerator.prepare(model, optimizer, loader, rates)
    batches = _endless(loader)

    def step() -> None:
        clean = next(batches)["image"]
        noise = torch.randn(clean.shape, device=clean.device)
        times = torch.randint(0, 1000, (len(clean),), device=clean.device)
        with accelerator.accumulate(model):
            loss = nn.functional.mse_loss(model(scheduler.add_noise(clean, noise, times), times).sample.float(), noise)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
        average.step(model.parameters())
        loss.detach().item()

    def trained() -> nn.Module:
        network: nn.Module = copy.deepcopy(model)
        average.copy_to(network.parameters())
        return network

    return Loop(step, trained)


def monai_loop(model: Any, data: TrainingData, batch_size: int, rate: float = 5e-5) -> Loop:
    """Training as MONAI's tutorial does."""
    from monai.inferers import DiffusionInferer
    from monai.networks.schedulers import DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=1000, schedule="scaled_linear_beta", beta_start=5e-4, beta_end=0.0195)
    inferer, optimizer = DiffusionInferer(scheduler), torch.optim.Adam(model.parameters(), lr=rate)
    batches = _endless(DataLoader(_Images(data), batch_size, shuffle=True))
    model.train()

    def step() -> None:
        images = next(batches)["image"]
        optimizer.zero_grad(set_to_none=True)
        noise = torch.randn_like(images)
        times = torch.randint(0, 1000, (len(images),)).long()
        made = inferer(inputs=images, diffusion_model=model, noise=noise, timesteps=times)
        loss = nn.functional.mse_loss(made.float(), noise.float())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()

    return Loop(step, lambda: model)


class _Images:
    """The images, as a loader of any other project reads them."""

    def __init__(self, data: TrainingData) -> None:
        self.samples = data.samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        return {"image": self.samples[index]["image"]}


def _images(shape: tuple[int, ...], count: int) -> TrainingData:
    images = torch.rand((count, *shape), generator=torch.Generator().manual_seed(0)) * 2 - 1
    fields = {"image": FieldSpec(shape, value_range=(-1, 1))}
    return TrainingData(TensorSamples({"image": images}), fields, tuple(map(str, range(count))), "noise")


def _endless(loader: Any) -> Iterator[Any]:
    return itertools.chain.from_iterable(loader for _ in itertools.count())


def _repeat(step: Callable[[], Any], count: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            step()

    return run


def _cpu_seconds(contestants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each contestant in each round, in rotating order; a first round is not counted."""
    names, taken = list(contestants), {name: list[float]() for name in contestants}
    for turn in range(-1, rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            began = time.process_time()
            contestants[name]()
            if turn >= 0:
                taken[name].append(time.process_time() - began)
    return taken


def _quartiles(values: list[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [float(each) for each in torch.tensor(values).quantile(torch.tensor([0.25, 0.5, 0.75]))]


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
