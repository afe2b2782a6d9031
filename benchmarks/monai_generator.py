"""What does sampling cost outside the network, against MONAI's own inferers at equal steps?

The network and the autoencoder do next to nothing, so that the time is that of noise, scheduler and conversion.
MONAI's inferers get noise that was drawn for the batch as a whole, in the time taken; they map no intensities and check
nothing.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.harness import interleaved, publish, ratios
from torchgenaug import MonaiSynthesizer, SyntheticSequence

STEPS = 10


def measure(*, quick: bool = False) -> dict[str, Any]:
    from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
    from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, PNDMScheduler, RFlowScheduler

    class Half(DiffusionModelUNet):  # type: ignore[misc]
        def forward(self, x: Any, timesteps: Any, context: Any = None, class_labels: Any = None) -> Any:
            return x * 0.5

    class Copies(AutoencoderKL):  # type: ignore[misc]
        def decode(self, z: Any) -> Any:
            return z.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)

    def net(dims: int) -> Any:
        return Half(dims, 1, 1, 1, (8, 8), (False, False), 4, num_head_channels=4).eval()

    decoder = Copies(
        3,
        channels=(4, 4),
        num_res_blocks=1,
        attention_levels=(False, False),
        latent_channels=1,
        norm_num_groups=4,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    ).eval()
    schedulers = {
        "DDPM": lambda: DDPMScheduler(STEPS),
        "DDIM": lambda: DDIMScheduler(1000),
        "DDIM, not clipped": lambda: DDIMScheduler(1000, clip_sample=False),
        "PNDM": lambda: PNDMScheduler(1000, skip_prk_steps=True),
        "RFlow": lambda: RFlowScheduler(1000),
    }
    # (question, batch, shape of what is denoised, size of the images, autoencoder, schedulers)
    cases: list[tuple[str, int, tuple[int, ...], tuple[int, ...], Any, list[str]]] = [
        ("2D, 64 of 64x64", 64, (64, 64), (64, 64), None, list(schedulers)),
        ("3D, 2 of 64x64x64", 2, (64, 64, 64), (64, 64, 64), None, ["DDIM", "RFlow"]),
        ("3D latent, 2 of 32x32x32", 2, (32, 32, 32), (64, 64, 64), decoder, ["DDIM", "RFlow"]),
    ]
    if quick:
        cases = [
            (name, 2, (8,) * len(latent), tuple(16 if ae else 8 for _ in size), ae, kinds)
            for name, _, latent, size, ae, kinds in cases
        ]
    tables = {
        question: {
            kind: _timed(net(len(size)), schedulers[kind](), batch, latent, size, autoencoder, quick=quick)
            for kind in kinds
        }
        for question, batch, latent, size, autoencoder, kinds in cases
    }
    return publish("monai_generator", tables, quick=quick)


def _timed(
    network: Any,
    scheduler: Any,
    batch: int,
    latent: tuple[int, ...],
    size: tuple[int, ...],
    autoencoder: Any,
    *,
    quick: bool,
) -> dict[str, Any]:
    from monai.inferers import DiffusionInferer, LatentDiffusionInferer

    options: dict[str, Any] = {"size": size, "steps": STEPS, "autoencoder": autoencoder, "value_range": (0, 1)}
    synthesizer = MonaiSynthesizer(network, scheduler, **options)
    # A network that does nothing leaves noise, which lies outside any range: `clip` keeps the sequence's check content.
    sequence = SyntheticSequence(MonaiSynthesizer(network, scheduler, clip=True, **options))
    seeds = list(range(batch))
    draw = torch.Generator()
    inferer: Any = (DiffusionInferer if autoencoder is None else LatentDiffusionInferer)(scheduler)

    def theirs() -> Any:
        noise = torch.randn((batch, 1, *latent), generator=draw.manual_seed(0))
        # It is left to the caller to set the state of the scheduler (PNDM remembers) back.
        scheduler.set_timesteps(STEPS)
        parts = (noise,) if autoencoder is None else (noise, autoencoder)
        return inferer.sample(*parts, diffusion_model=network, verbose=False)

    contestants = {
        "MONAI's inferer": theirs,
        "MonaiSynthesizer": lambda: synthesizer.synthesize(seeds),
        "SyntheticSequence (checked)": lambda: sequence.batch(seeds),
    }
    timings = interleaved(contestants, rounds=3 if quick else 31)
    table = ratios(timings, "MONAI's inferer")
    for name, timing in timings.items():
        table[name]["us_per_sample"] = 1e6 * timing.median / batch
        table[name]["us_per_sample_fastest"] = 1e6 * min(timing.seconds) / batch
    assert torch.equal(synthesizer.synthesize(seeds)["image"], synthesizer.synthesize(seeds)["image"])
    return table


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
