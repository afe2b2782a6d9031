"""Few-step solvers by name: the noise levels of a given scheduler, walked by another one.

A diffusion model is trained on noise levels and a kind of prediction; which solver walks from noise to image is free.
Converting a configuration has traps, which this file knows: diffusers fills what it takes for defaults with those of
the other class (other noise levels for LCM, clipping of latents for DDIM), and most configurations space the timesteps
so that few of them never see pure noise, which costs contrast (Lin et al., 2024).

References:
    Lu et al. (2022). DPM-Solver++. arXiv:2211.01095.
    Zhao et al. (2023). UniPC. NeurIPS, arXiv:2302.04867.
    Song, Meng, Ermon (2021). Denoising diffusion implicit models. ICLR.
    Karras et al. (2022). Elucidating the design space of diffusion-based generative models. NeurIPS (Euler's method).
    Luo et al. (2023). Latent consistency models. arXiv:2310.04378.
    Lipman et al. (2023). Flow matching for generative modeling. ICLR.
    Lin et al. (2024). Common diffusion noise schedules and sample steps are flawed. WACV ("trailing" timesteps).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from torchgenaug.errors import ConfigurationError


class _Solver(NamedTuple):
    scheduler: str
    predictions: tuple[str, ...]
    options: Mapping[str, Any]


_ANY = ("epsilon", "v_prediction", "sample")
_MULTISTEP = {"solver_order": 2, "lower_order_final": True, "final_sigmas_type": "zero"}
_TRAILING = {"timestep_spacing": "trailing"}

_DIFFUSION = {
    "ddim": _Solver("DDIMScheduler", _ANY, _TRAILING),
    "dpm++": _Solver("DPMSolverMultistepScheduler", _ANY, {**_TRAILING, **_MULTISTEP, "algorithm_type": "dpmsolver++"}),
    "euler": _Solver("EulerDiscreteScheduler", ("epsilon", "v_prediction"), _TRAILING),
    "lcm": _Solver("LCMScheduler", _ANY, {}),
    "unipc": _Solver("UniPCMultistepScheduler", _ANY, {**_TRAILING, **_MULTISTEP}),
}
_FLOW_SIGMAS = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
_FLOW = {
    "dpm++": _Solver(
        "DPMSolverMultistepScheduler", (), {**_MULTISTEP, **_FLOW_SIGMAS, "algorithm_type": "dpmsolver++"}
    ),
    "flow": _Solver("FlowMatchEulerDiscreteScheduler", (), {}),
    "unipc": _Solver("UniPCMultistepScheduler", (), {**_MULTISTEP, **_FLOW_SIGMAS}),
}
SOLVERS = tuple(sorted(_DIFFUSION | _FLOW))
"""The names: ddim, dpm++, euler, flow, lcm, unipc."""


def with_solver(scheduler: Any, solver: str | None, steps: int) -> Any:
    """A scheduler that walks the noise levels of `scheduler` by `solver`; `scheduler` itself where that is None.

    What belongs to the model is kept: noise levels, kind of prediction, clipping (DDIM and LCM only; the others do not
    clip). Timesteps are spaced "trailing", which starts few steps at pure noise.

    Args:
        scheduler: the scheduler that the model was trained or saved with; not changed.
        solver: one of `SOLVERS`. "lcm" needs a network distilled for consistency; "flow" one for flow matching.
        steps: inference steps.

    Raises:
        ConfigurationError: an unknown name, or a solver that cannot walk these noise levels or use this prediction.
    """
    if solver is None:
        return scheduler
    if not isinstance(solver, str) or solver not in SOLVERS:
        raise ConfigurationError(
            f"`solver` must be one of {', '.join(SOLVERS)} or None, got {solver!r}. Any other solver of diffusers can "
            "be passed as `scheduler` itself, for example DEISMultistepScheduler.from_config(scheduler.config)."
        )
    import diffusers

    chosen, options = _chosen(solver, type(scheduler).__name__, scheduler.config, steps)
    target = getattr(diffusers, chosen.scheduler)
    # A plain dictionary: from_config would replace what it knows to be defaults of the given class by its own.
    known = inspect.signature(target.__init__).parameters
    config = {key: value for key, value in scheduler.config.items() if key in known}
    made = target.from_config(config | options)
    _check_noise_levels(solver, scheduler, made)
    return made


def _chosen(solver: str, name: str, config: Mapping[str, Any], steps: int) -> tuple[_Solver, dict[str, Any]]:
    """The target and its options."""
    prediction = config.get("prediction_type")
    if name.startswith("FlowMatch") or prediction == "flow_prediction":
        if solver not in _FLOW:
            raise ConfigurationError(
                f"`solver` must be one of {', '.join(_FLOW)} for a flow-matching model, got {solver!r} for {name}. "
                "The others walk the noise levels of diffusion models."
            )
        shift = config.get("shift", config.get("flow_shift", 1.0))
        return _FLOW[solver], {**_FLOW[solver].options, "shift" if solver == "flow" else "flow_shift": shift}
    if solver not in _DIFFUSION:
        raise ConfigurationError(
            f"`solver` must be one of {', '.join(_DIFFUSION)} for a diffusion model, got {solver!r} for {name}. A "
            "network for flow matching comes with a FlowMatch scheduler; what this one predicts means something else."
        )
    chosen = _DIFFUSION[solver]
    if "beta_schedule" not in config or prediction not in _ANY:
        raise ConfigurationError(
            f"`solver` must be None for {name}, got {solver!r}. Only schedulers with a table of noise levels "
            "(beta_schedule) and a known prediction_type can be converted. Pass the solver itself as `scheduler`."
        )
    if prediction not in chosen.predictions:
        raise ConfigurationError(
            f"`solver` must be one that takes prediction_type={prediction!r}, got {solver!r}. "
            "Use solver='dpm++' or 'ddim'."
        )
    if str(config.get("variance_type")).startswith("learned") and solver != "dpm++":
        raise ConfigurationError(
            f"`solver` must be 'dpm++' for a network that also predicts variances, got {solver!r}, which would take "
            "them for part of the prediction. Use solver='dpm++', or None."
        )
    options = dict(chosen.options)
    if solver in ("ddim", "lcm") and "clip_sample" not in config:
        options["clip_sample"] = False  # the default of both is to clip, which ruins latents
    if solver == "lcm":
        options["original_inference_steps"] = max(steps, config.get("original_inference_steps", 50))
    return chosen, options


def _check_noise_levels(solver: str, scheduler: Any, made: Any) -> None:
    """A conversion that changed the noise levels would sample another model, without any error."""
    given, found = (getattr(one, "alphas_cumprod", None) for one in (scheduler, made))
    if given is None or found is None or torch.allclose(given.double(), found.double(), rtol=1e-4, atol=1e-6):
        return
    raise ConfigurationError(
        f"`solver` must walk the noise levels of the given {type(scheduler).__name__}, got {solver!r}, whose "
        f"{type(made).__name__} has others: it does not know one of the settings in {dict(scheduler.config)}. "
        "Use another solver, or None."
    )
