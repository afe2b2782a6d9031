"""Which schedulers of MONAI are sampled, and all that decides their steps as JSON and tables.

MONAI's schedulers do not remember their arguments, and one (RFlow with logit-normal times) cannot be pickled. What a
step needs is read off their attributes, and a fresh scheduler is built from that: the one given is never stepped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, SynthesizerLoadError, missing_extra

# Class → attributes that decide its steps. (How RFlow draws times in training does not.)
_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "DDPMScheduler": ("num_train_timesteps", "variance_type", "clip_sample", "clip_sample_values", "prediction_type"),
    "DDIMScheduler": ("num_train_timesteps", "clip_sample", "clip_sample_values", "steps_offset", "prediction_type"),
    "PNDMScheduler": ("num_train_timesteps", "skip_prk_steps", "steps_offset", "prediction_type"),
    "RFlowScheduler": (
        "num_train_timesteps",
        "use_discrete_timesteps",
        "use_timestep_transform",
        "transform_scale",
        "steps_offset",
        "base_img_size_numel",
        "spatial_dim",
    ),
}
_TABLES = ("betas", "alphas", "alphas_cumprod", "final_alpha_cumprod")

SCHEDULERS = tuple(_ATTRIBUTES)
"""Names of the classes in ``monai.networks.schedulers`` that are sampled."""


def described(scheduler: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(class and attributes, JSON-ready; tables of noise levels) of a scheduler; `rebuilt` is the way back.

    Raises:
        ConfigurationError: not exactly one of MONAI's `SCHEDULERS`: another class may step otherwise.
    """
    schedulers = _library()
    name = type(scheduler).__name__
    if name not in _ATTRIBUTES or type(scheduler) is not getattr(schedulers, name):
        raise ConfigurationError(
            f"`scheduler` must be one of monai.networks.schedulers' {', '.join(SCHEDULERS)}, got a "
            f"{type(scheduler).__module__}.{name}. Its steps are unknown here. Use for example "
            "monai.networks.schedulers.DDIMScheduler with the noise schedule of the training; a scheduler of diffusers "
            "belongs to DiffusersSynthesizer."
        )
    attributes = {attribute: getattr(scheduler, attribute) for attribute in _ATTRIBUTES[name]}
    if "clip_sample_values" in attributes:
        attributes["clip_sample_values"] = [float(limit) for limit in attributes["clip_sample_values"]]
    plain = {key: str(value) if isinstance(value, str) else value for key, value in attributes.items()}
    tables = {
        table: getattr(scheduler, table) for table in _TABLES if isinstance(getattr(scheduler, table, None), Tensor)
    }
    return {"class": name, **plain}, {key: value.detach().cpu().clone() for key, value in tables.items()}


def rebuilt(description: Mapping[str, Any], tables: Mapping[str, Tensor]) -> Any:
    """A fresh scheduler with these attributes and tables.

    Raises:
        SynthesizerLoadError: not what `described` returns.
    """
    schedulers = _library()
    settings = dict(description)
    name = settings.pop("class", None)
    if (
        not isinstance(name, str)
        or name not in _ATTRIBUTES
        or set(settings) != set(_ATTRIBUTES[name])
        or not set(tables) <= set(_TABLES)
    ):
        raise SynthesizerLoadError(
            f"`scheduler` must be described by a class of {SCHEDULERS} and its attributes, got {dict(description)} "
            f"with the tables {sorted(tables)}. Save the synthesizer again."
        )
    try:
        # PNDM lays out its Runge-Kutta steps at once, for which a short schedule has no room.
        options = {key: settings[key] for key in ("num_train_timesteps", "skip_prk_steps") if key in settings}
        scheduler = getattr(schedulers, name)(**options)
    except Exception as error:
        raise SynthesizerLoadError(
            f"`scheduler` must be one that {name} can be, got {settings}, which fails with {error!r}. Save the "
            "synthesizer again."
        ) from error
    for attribute, value in settings.items():
        setattr(scheduler, attribute, value)
    for table, values in tables.items():
        setattr(scheduler, table, values.to(torch.float32))
    return scheduler


def _library() -> Any:
    try:
        from monai.networks import schedulers
    except ImportError as error:
        raise missing_extra("MonaiSynthesizer", package="monai", extra="monai") from error
    return schedulers
