"""DDIM of MONAI as recipes sample with it (Song, Meng, Ermon, 2021), in steps that fit together.

Lin et al. (2024), "Common diffusion noise schedules and sample steps are flawed" ("trailing" times).
"""

from __future__ import annotations

from typing import Any

from torchgenaug.recipes.families.objective import NUM_TIMES

DDIM_STEPS = 25


def ddim_scheduler(steps: int) -> Any:
    """DDIM of MONAI over the cosine schedule, for networks that predict v, to be sampled in `steps` steps.

    MONAI spreads the times evenly from the last to 0, by 999 / (steps - 1), while each of its steps goes 1000 // steps
    down: samples keep noise that the next step does not expect. With this offset both are the same where 1000 can be
    divided by `steps`. Pairs of brain slices: 34.5 dB in 25 steps and 33.6 in 5, where they had 32.2 and 21.9.
    """
    from monai.networks.schedulers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=NUM_TIMES,
        schedule="cosine",
        prediction_type="v_prediction",
        clip_sample=False,
        steps_offset=trailing_offset(NUM_TIMES, steps),
    )


def trailing_offset(times: int, steps: int) -> int:
    """The `steps_offset` with which MONAI's DDIM begins at the last time, and ends without noise."""
    return max(0, times // steps - 1)  # more steps than times are refused where they are planned
