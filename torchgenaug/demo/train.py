"""Trains the small diffusion model that ships with the demo (about 90 minutes on one CPU core).

    python -m torchgenaug.demo.train --out torchgenaug/demo/weights

The model is a `diffusers.UNet2DModel` over (image, soft one-hot tissue map), conditioned on the level of the slice,
trained with the v-objective (Salimans and Ho, 2022, appendix D) on slices of the train split that TorchIO deforms, so
that it does not learn one template by heart. Held-out slices never enter.

References:
    Salimans, Ho (2022). Progressive distillation for fast sampling of diffusion models. ICLR.
    Nichol, Dhariwal (2021). Improved denoising diffusion probabilistic models. ICML (cosine schedule, eq. 17).
    Hang et al. (2023). Efficient diffusion training via min-SNR weighting strategy. ICCV (eq. 8, gamma = 5).
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug.datasets import brain

NULL_LEVEL = brain.NUM_LEVELS  # the class index that stands for "any level" in classifier-free guidance


def deformed_maps(seed: int, count: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int64]]:
    """`count` deformed train slices: (count, 5, 64, 64) float16 in [-1, 1] (T1, four tissue scores), and levels."""
    import SimpleITK
    import torchio as tio

    torch.set_num_threads(1)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    volumes = torch.from_numpy(brain.load_volumes())
    rows = brain.slice_rows("train")
    deform = brain.draw_deformation()
    maps = np.empty((count, 1 + brain.NUM_TISSUES, 64, 64), np.float16)
    levels = np.empty(count, np.int64)
    for k in range(count):
        row = rows[rng.integers(len(rows))]
        subject = tio.Subject(maps=tio.ScalarImage(tensor=volumes[..., row, None]))
        moved = deform(subject).maps.data[..., 0]
        small = torch.nn.functional.avg_pool2d(moved, 3).clamp(0, 1)
        image = (small[:1] * rng.uniform(0.9, 1.1)) ** rng.uniform(0.85, 1.2)
        background = (1 - small[1:].sum(0, keepdim=True)).clamp(0, 1)
        maps[k] = (torch.cat([image.clamp(0, 1), background, small[1:]]) * 2 - 1).numpy()
        levels[k] = brain.level_of(row)
    return maps, levels


def make_unet() -> Any:
    """The denoiser: 0.93 M parameters, 5 channels at 64 x 64, attention at 8 x 8, 4 levels and a null class."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=64,
        in_channels=5,
        out_channels=5,
        block_out_channels=(16, 32, 48, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=16,
        num_class_embeds=brain.NUM_LEVELS + 1,
    )


def train(out: Path, steps: int, batch_size: int, num_samples: int, learning_rate: float, cache: Path | None) -> None:
    """Trains, logs the loss every 100 steps, and saves the averaged model as a pipeline folder every 500 steps."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    if cache is not None and cache.exists():
        with np.load(cache) as archive:
            maps, levels = archive["maps"], archive["levels"]
    else:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            parts = pool.starmap(deformed_maps, [(seed, num_samples // 2) for seed in range(2)])
        maps, levels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if cache is not None:
            np.savez(cache, maps=maps, levels=levels)

    torch.set_num_threads(1)
    torch.manual_seed(0)
    unet = make_unet().to(memory_format=torch.channels_last)
    noise_schedule = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    signal_to_noise = noise_schedule.alphas_cumprod / (1 - noise_schedule.alphas_cumprod)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.05)
    average = EMAModel(unet.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
    running = 0.0
    for step in range(1, steps + 1):
        chosen = torch.randint(len(maps), (batch_size,))
        clean = torch.from_numpy(maps[chosen]).float().contiguous(memory_format=torch.channels_last)
        level = torch.from_numpy(levels[chosen])
        level = torch.where(torch.rand(batch_size) < 0.1, NULL_LEVEL, level)
        time = torch.randint(noise_schedule.config.num_train_timesteps, (batch_size,))
        noise = torch.randn_like(clean)
        noisy = noise_schedule.add_noise(clean, noise, time)
        with torch.autocast("cpu", torch.bfloat16):
            velocity = unet(noisy, time, level).sample.float()
        loss = _min_snr_loss(velocity, noise_schedule.get_velocity(clean, noise, time), signal_to_noise[time])
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        decay.step()
        optimizer.zero_grad()
        average.step(unet.parameters())
        running += loss.item()
        if step % 100 == 0:
            print(f"step {step}/{steps}  loss {running / 100:.4f}", flush=True)
            running = 0.0
        if step % 500 == 0 or step == steps:
            average.store(unet.parameters())
            average.copy_to(unet.parameters())
            save(unet, out)
            average.restore(unet.parameters())


def _min_snr_loss(velocity: Tensor, target: Tensor, signal_to_noise: Tensor) -> Tensor:
    weight = signal_to_noise.clamp(max=5) / (signal_to_noise + 1)
    return (weight * (velocity - target).square().mean((1, 2, 3))).mean() / weight.mean()


def save(unet: torch.nn.Module, out: Path) -> None:
    """Writes the synthesizer of the demo: float16 weights, 15 steps of DPM-Solver++ (Lu et al., 2022)."""
    from diffusers import DPMSolverMultistepScheduler

    from torchgenaug import DiffusersSynthesizer, save_synthesizer

    solver = DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
    )
    synthesizer = DiffusersSynthesizer(
        unet,
        solver,
        steps=15,
        value_range=(0.0, 1.0),
        clip=True,
        label_channels=brain.NUM_TISSUES,
        null_class=NULL_LEVEL,
    )
    synthesizer.trained_on = {
        "data": "ICBM152 2009 template (nilearn), axial slices of 3 mm pixels, deformed by TorchIO",
        "rows": brain.slice_rows("train"),
        "command": "python -m torchgenaug.demo.train",
    }
    shutil.rmtree(out, ignore_errors=True)
    save_synthesizer(synthesizer, out, weights_dtype=torch.float16)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained pipeline")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--num-samples", type=int, default=4000, help="deformed slices to train on")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--cache", type=Path, help="keep the deformed slices in this .npz file")
    arguments = parser.parse_args()
    train(
        arguments.out,
        arguments.steps,
        arguments.batch_size,
        arguments.num_samples,
        arguments.learning_rate,
        arguments.cache,
    )


if __name__ == "__main__":
    main()
