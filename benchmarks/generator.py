"""What does sampling cost outside the network, against diffusers' own pipeline at equal steps?

The network does nothing, so that the time is that of noise, scheduler and conversion: 64 samples of 1×64×64, four
steps.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from benchmarks.harness import interleaved, publish, ratios
from torchgenaug import DiffusersSynthesizer, SyntheticSequence

BATCH, STEPS = 64, 4


def measure(*, quick: bool = False) -> dict[str, Any]:
    import diffusers
    from diffusers.models.unets.unet_2d import UNet2DOutput

    class Identity(diffusers.UNet2DModel):  # type: ignore[misc]
        def forward(self, sample: Any, timestep: Any, class_labels: Any = None, return_dict: bool = True) -> Any:
            return UNet2DOutput(sample=sample) if return_dict else (sample,)

    torch.manual_seed(0)
    net = Identity(
        sample_size=64,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    schedulers = {
        "DDIM": diffusers.DDIMScheduler(clip_sample=False),
        "DPM-Solver++": diffusers.DPMSolverMultistepScheduler(),
        "Euler": diffusers.EulerDiscreteScheduler(),
        "UniPC": diffusers.UniPCMultistepScheduler(),
    }
    synthesizers = {
        name: DiffusersSynthesizer(net, scheduler, steps=STEPS, value_range=(0, 1))
        for name, scheduler in schedulers.items()
    }
    pipeline = diffusers.DDIMPipeline(net, schedulers["DDIM"])
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator() for _ in range(BATCH)]

    def by_pipeline(output_type: str) -> Any:
        seeded = [generator.manual_seed(seed) for seed, generator in enumerate(generators)]
        return pipeline(batch_size=BATCH, generator=seeded, num_inference_steps=STEPS, output_type=output_type)

    seeds = list(range(BATCH))
    contestants: dict[str, Any] = {"DDIMPipeline, to numpy": lambda: by_pipeline("np")}
    contestants["DDIMPipeline, to PIL"] = lambda: by_pipeline("pil")
    for name, synthesizer in synthesizers.items():
        contestants[f"DiffusersSynthesizer, {name}"] = lambda s=synthesizer: s.synthesize(seeds)
    # A network that does nothing leaves noise, which lies outside any range: `clip` keeps the sequence's check content.
    clipped = DiffusersSynthesizer(net, schedulers["DDIM"], steps=STEPS, value_range=(0, 1), clip=True)
    sequence = SyntheticSequence(clipped)
    contestants["SyntheticSequence (checked), DDIM"] = lambda: sequence.batch(seeds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        timings = interleaved(contestants, rounds=3 if quick else 31)
    table = ratios(timings, "DDIMPipeline, to numpy")
    for name, timing in timings.items():
        table[name]["us_per_sample"] = 1e6 * timing.median / BATCH
        table[name]["us_per_sample_fastest"] = 1e6 * min(timing.seconds) / BATCH
    assert torch.equal(synthesizers["DDIM"].synthesize(seeds)["image"], synthesizers["DDIM"].synthesize(seeds)["image"])
    return publish("generator", table, quick=quick)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
