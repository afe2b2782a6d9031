"""Defaults of unconditional diffusion: variants of `ddpm`, each trained for the same CPU time on the same images.

One thing is changed at a time. Averages of the weights do not touch the training, so all of them are judged at its end.

    python -m benchmarks.diffusion_defaults --out FOLDER --minutes 2.5      # goes on where it was interrupted

Columns of a row:

* distance: sliced Wasserstein distance to held-out images over that of real training images to them (1: as near);
* shape: mean distance of a sample to the nearest training image, over that of held-out images; images are averaged down
  to 16 pixels a side. 1: as near as unseen real images; larger: no such shapes; smaller: copies.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from benchmarks.harness import publish
from torchgenaug.recipes import FitOptions, Options, TrainingData, load_data
from torchgenaug.recipes.batches import AUGMENTATION, spared, training_batches
from torchgenaug.recipes.families.ddpm import PixelDiffusion
from torchgenaug.recipes.judge import thumbnails
from torchgenaug.recipes.report import Judge, draw_samples
from torchgenaug.recipes.state import TrainingState
from torchgenaug.synthesizers import build_network
from torchgenaug.types import Batch


class Variant(NamedTuple):
    """What differs from the constant rate of 1e-3 that `ddpm` had."""

    rate: float = 1e-3
    falls: bool = True
    batch_size: int = 16
    weighted: bool = True
    augment: bool = True
    widths: Sequence[float] = ()
    shift: float = 1.0
    given: bool = True


VARIANTS = {
    "constant rate": Variant(falls=False),
    "falling rate": Variant(),
    "half the batch": Variant(batch_size=8),
    "twice the rate": Variant(rate=2e-3),
    "plain weights": Variant(weighted=False),
    "wider below": Variant(widths=(1, 2, 4, 8)),
    "more noise": Variant(shift=0.5),
    "less noise": Variant(shift=2.0),
    "no augmentation": Variant(augment=False),
    "augmentation not given": Variant(given=False),
}
AVERAGES: Mapping[str, Callable[[int], float]] = {
    "last weights": lambda step: 0.0,
    "a ninth of the steps": lambda step: min(0.999, (1 + step) / (10 + step)),
    "power 0.75": lambda step: min(0.999, 1 - (1 + step) ** -0.75),
}
SETS = ("digits", "brain", "nuclei")


def train_variant(
    name: str, dataset: str, size: int, minutes: float, out: Path, sampling_steps: int = 20
) -> list[dict[str, Any]]:
    """Trains one variant; one row per average."""
    variant = VARIANTS[name]
    data, held_out = load_data(dataset, size=size), load_data(dataset, split="held_out", size=size)
    torch.manual_seed(0)
    recipe = PixelDiffusion(
        data,
        Options(
            steps=100_000, batch_size=variant.batch_size, learning_rate=variant.rate, sampling_steps=sampling_steps
        ),
    )
    if variant.widths:
        recipe.networks = {**recipe.networks, "unet": _with_widths(recipe.networks["unet"], variant.widths)}
    if variant.shift != 1:
        _shift_noise(recipe, variant.shift)
    if not variant.weighted:
        _weigh_equally(recipe)
    averages = {each: copy.deepcopy(recipe.networks["unet"]) for each in AVERAGES}
    state = TrainingState(recipe, Accelerator(cpu=True), FitOptions())
    share = spared(recipe.networks) if variant.given else 0.0
    batches: Iterator[Batch] = training_batches(data, variant.batch_size, augment=variant.augment, spare=share)
    if not variant.given:
        batches = ({name: each for name, each in batch.items() if name != AUGMENTATION} for batch in batches)
    progress, limit = 0.0, 60 * minutes
    rates = LambdaLR(state.optimizers["unet"], lambda _: _factor(progress) if variant.falls else 1.0)
    began = time.process_time()
    while progress < 1:
        state.train_step(batches, progress)
        progress = min(1.0, (time.process_time() - began) / limit)
        rates.step()
        for each, decay in AVERAGES.items():
            _average(averages[each], recipe.networks["unet"], decay(state.step))
    judge = Judge(data, held_out, None)
    rows = []
    for each, network in averages.items():
        synthesizer = recipe.synthesizer({"unet": network})
        samples = judge.samples(synthesizer)
        picture = out / f"{dataset}-{size}-{name}-{each}.png".replace(" ", "_")
        draw_samples(samples, synthesizer, data, picture, rotate=int(dataset == "brain"))
        rows.append(
            {
                "data": dataset,
                "size": size,
                "variant": name,
                "average": each,
                "steps": state.step,
                "minutes": minutes,
                "distance": judge.distance(samples) / judge.floor,
                "noise": judge.noise / judge.floor,
                "shape": shape(samples["image"], data, held_out),
                "shape_of_noise": shape(torch.rand(samples["image"].shape), data, held_out),
            }
        )
    return rows


def shape(images: Tensor, data: TrainingData, held_out: TrainingData) -> float:
    """Mean distance to the nearest training image over that of held-out images, at 16 pixels a side."""
    train, real, made = (thumbnails(each).flatten(1) for each in (_stacked(data), _stacked(held_out), images))
    return float(torch.cdist(made, train).min(1).values.mean() / torch.cdist(real, train).min(1).values.mean())


def _stacked(data: TrainingData) -> Tensor:
    return torch.stack([data.samples[row]["image"] for row in range(len(data))])


def _factor(progress: float) -> float:
    """Five per cent of warm-up, then half a cosine."""
    return min(progress / 0.05 + 0.02, 0.5 * (1 + float(torch.tensor(progress * torch.pi).cos())) + 0.001)


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)


def _with_widths(unet: Any, factors: Sequence[float]) -> nn.Module:
    config = unet.blueprint["arguments"]
    levels = len(config["block_out_channels"])
    widths = [round(config["block_out_channels"][0] * factor) for factor in factors[:levels]]
    return build_network("diffusers:UNet2DModel", **{**config, "block_out_channels": widths})


def _shift_noise(recipe: PixelDiffusion, factor: float) -> None:
    """Noise levels of images that are `factor` as large against the noise (Chen, 2023, arXiv:2301.10972)."""
    from torchgenaug.recipes.families.objective import VelocityObjective

    alphas = recipe.scheduler.alphas_cumprod.double()
    ratio = (alphas / (1 - alphas) * factor**2).clamp(min=1e-7)
    shifted = ratio / (1 + ratio)
    betas = 1 - shifted / torch.cat([torch.ones(1, dtype=torch.float64), shifted[:-1]])
    recipe.scheduler = type(recipe.scheduler).from_config(
        recipe.scheduler.config, trained_betas=betas.clamp(max=0.999).tolist()
    )
    recipe.objective = VelocityObjective(recipe.scheduler.alphas_cumprod)


def _weigh_equally(recipe: PixelDiffusion) -> None:
    objective = recipe.objective

    def loss(denoise: Callable[[Tensor, Tensor], Tensor], clean: Tensor) -> Tensor:
        time_ = torch.randint(len(objective.alphas), (len(clean),))
        noise = torch.randn_like(clean)
        alpha = objective.alphas[time_].view(-1, 1, 1, 1)
        keep, add = alpha.sqrt(), (1 - alpha).sqrt()
        return (denoise(keep * clean + add * noise, time_) - (keep * noise - add * clean)).square().mean()

    recipe.objective = _Objective(loss)  # type: ignore[assignment]


class _Objective(NamedTuple):
    loss: Callable[[Callable[[Tensor, Tensor], Tensor], Tensor], Tensor]


def measure(
    *,
    quick: bool = False,
    out: Path | None = None,
    minutes: float = 2.5,
    size: int = 32,
    sets: Sequence[str] = SETS,
    variants: Sequence[str] = tuple(VARIANTS),
) -> None:
    """Trains every variant that is not in `out` yet."""
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        # Each step sets the rate for the next one; nothing has stepped before the first.
        warnings.simplefilter("ignore", UserWarning)
        out = out or Path(scratch)
        if quick:
            rows = train_variant("more noise", "brain", 16, 0.002, out, sampling_steps=2)
            publish("diffusion_defaults", {"rows": rows}, quick=True)
            return
        out.mkdir(parents=True, exist_ok=True)
        for name in variants:
            for dataset in sets:
                kept = out / f"{dataset}-{size}-{name.replace(' ', '_')}.json"
                if not kept.exists():
                    kept.write_text(json.dumps(train_variant(name, dataset, size, minutes, out), indent=1))
        rows = [row for kept in sorted(out.glob("*.json")) for row in json.loads(kept.read_text())]
        publish("diffusion_defaults", {"rows": rows}, quick=False)


def main() -> None:
    """Measures every row that is not in FOLDER yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for rows and pictures")
    parser.add_argument("--minutes", type=float, default=2.5, help="CPU minutes of each training")
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {"sets": given.sets.split(","), "variants": given.variants.split(",")}
    measure(out=given.out, minutes=given.minutes, size=given.size, **chosen)


if __name__ == "__main__":
    main()
