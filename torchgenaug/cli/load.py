"""Loads the SYNTHESIZER argument of commands: a folder saved by torchgenaug or diffusers, or a factory function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from torchgenaug import ClassLabels, SyntheticSequence, load_synthesizer
from torchgenaug.contracts import Conditions, Synthesizer, device_of
from torchgenaug.devices import find_accelerator
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.import_name import call_by_name
from torchgenaug.synthesizers.module.truncation import truncated

DIFFUSERS_RANGE = (0.0, 1.0)
"""What the -1 and 1 of a plain diffusers folder stand for by default: diffusers' own pipelines map to [0, 1], too."""


def load_sequence(
    name: str,
    *,
    seed: int = 0,
    num_classes: int | None = None,
    class_weights: str | None = None,
    conditions: str | None = None,
    steps: int | None = None,
    value_range: tuple[float, float] | None = None,
    device: str | None = None,
    truncation: float | None = None,
) -> SyntheticSequence:
    """The sequence that a command is to render.

    Args:
        name: a folder that `save_synthesizer` wrote; a plain diffusers folder (``unet/``, ``scheduler/`` and, if there,
            ``vae/`` or ``vqvae/``); or ``package.module:factory``, a function without arguments that returns a
            synthesizer or a sequence. Modules are also looked for in the working directory.
        seed: base seed; a factory that returns a sequence sets its own.
        num_classes: balanced class labels as conditions; default: what the synthesizer says about itself.
        class_weights: shares of the classes, numbers with commas between them.
        conditions: ``package.module:factory`` of any conditions, instead of class labels.
        steps: sampling steps of a diffusion model; default: the saved ones, or 50 for a plain diffusers folder.
        value_range: intensities that the -1 and 1 of a plain diffusers folder stand for; default: `DIFFUSERS_RANGE`.
        device: where a saved synthesizer computes; default: the GPU of this process if there is one, see `own_device`.
        truncation: of a model with styles, see `truncated`; default: the saved one.

    Raises:
        ConfigurationError: none of the three, a factory that returns something else, or unfit settings.
        SynthesizerLoadError: a folder that cannot be loaded.
    """
    made = _load(name, steps, value_range, own_device(device))
    if isinstance(made, SyntheticSequence):
        if seed or any(option is not None for option in (num_classes, class_weights, conditions, steps, truncation)):
            raise ConfigurationError(
                "--seed, --classes, --class-weights, --conditions, --steps and --truncation must be left out for a "
                f"factory that returns a SyntheticSequence, which has its own, got {name!r}. Set them in the factory."
            )
        return made
    if not isinstance(made, Synthesizer):
        raise ConfigurationError(
            f"SYNTHESIZER must give a synthesizer or a SyntheticSequence, got {type(made).__name__} from {name!r}. "
            "Let the function return DiffusersSynthesizer(...), ModuleSynthesizer(...) or a SyntheticSequence of one."
        )
    if truncation is not None:
        made = truncated(made, truncation)
    if conditions is not None:
        if num_classes is not None or class_weights is not None:
            raise ConfigurationError(
                f"--classes and --class-weights must be left out with --conditions, got {conditions!r}: a sample has "
                "one condition. Let the factory of the conditions set the classes."
            )
        return SyntheticSequence(made, _load_conditions(conditions), seed=seed)
    weights = None if class_weights is None else _numbers(class_weights)
    classes = num_classes
    if classes is None:
        classes = getattr(made, "num_classes", None) if weights is None else len(weights)
    _check_given(made, name)
    return SyntheticSequence(made, None if classes is None else ClassLabels(classes, weights=weights), seed=seed)


def is_diffusers_folder(name: str) -> bool:
    """Whether `name` is a folder as diffusers writes it, without the settings that `save_synthesizer` adds."""
    folder = Path(name)
    marks = (folder / "model_index.json", folder / "unet")
    return not (folder / "synthesizer.json").exists() and any(mark.exists() for mark in marks)


def own_device(device: str | None) -> str:
    """Where this process computes: with a launcher, the GPU of its number on this machine (``LOCAL_RANK``).

    Makes it torch's current GPU, so that a factory that says "cuda" gets the same.

    Args:
        device: the user's choice; None: a GPU if there is one, "cuda" without a number: this process's own.
    """
    found = find_accelerator()
    if found is None or device not in (None, found.type):
        return device or "cpu"
    local = os.environ.get("LOCAL_RANK", "0")
    number = int(local) % torch.accelerator.device_count() if local.isdecimal() else 0
    torch.accelerator.set_device_index(number)
    return f"{found.type}:{number}"


def _load(name: str, steps: int | None, value_range: tuple[float, float] | None, device: str) -> Any:
    """What `name` stands for, sampled in `steps` steps."""
    if is_diffusers_folder(name):
        from torchgenaug import synthesizers
        from torchgenaug.synthesizers.diffusion.layouts import pipeline_home

        limits = DIFFUSERS_RANGE if value_range is None else value_range
        home = getattr(synthesizers, pipeline_home(name))
        return home.from_pretrained(name, steps=steps or 50, value_range=limits, device=device)
    if value_range is not None:
        raise ConfigurationError(
            f"--value-range must be left out unless SYNTHESIZER is a plain diffusers folder, got {name!r}, which "
            "states its own. For other intensities, save the model with another `value_range`."
        )
    is_factory = ":" in name and not Path(name).exists()
    made = _call_factory(name, "SYNTHESIZER") if is_factory else load_synthesizer(name, device=device)
    if steps is None or not isinstance(made, Synthesizer):
        return made
    return _with_steps(made, steps)


def _check_given(synthesizer: Synthesizer, name: str) -> None:
    """Raises `ConfigurationError` where a model needs more than class labels: at once, not at the first sample."""
    needed = {field: spec for field, spec in getattr(synthesizer, "condition_fields", {}).items() if field != "label"}
    if not needed:
        return
    texts = "Prompts(texts, encode_prompts(folder, texts))"
    images = [field for field in needed if field != "prompt_embeds"]
    parts = [texts] * ("prompt_embeds" in needed) + [f"RealFields(dataset, {images})"] * bool(images)
    example = parts[0] if len(parts) == 1 else f"JointConditions({', '.join(parts)})"
    raise ConfigurationError(
        f"--conditions must be given for {name!r}, which is conditioned on "
        f"{'; '.join(f'{field}: {spec}' for field, spec in needed.items())}. Write a function without arguments that "
        f"returns {example} and name it: --conditions my_module:my_conditions"
    )


def _load_conditions(name: str) -> Conditions:
    made = _call_factory(name, "--conditions")
    if not isinstance(made, Conditions):
        raise ConfigurationError(
            f"--conditions must give conditions (callable on ids, with a fingerprint), got {type(made).__name__} from "
            f"{name!r}. Let the function return ClassLabels(...), RealFields(...) or your own."
        )
    return made


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigurationError(
            f"--class-weights must be numbers with commas between them, got {text!r}. For example: 0.5,0.3,0.2"
        ) from error


def _with_steps(synthesizer: Synthesizer, steps: int) -> Synthesizer:
    """The same diffusion model with another number of sampling steps."""
    from torchgenaug.contracts import Storable

    stored = synthesizer.stored() if isinstance(synthesizer, Storable) else None
    if stored is None or "steps" not in stored.settings:
        raise ConfigurationError(
            f"--steps must be left out for a {type(synthesizer).__name__}, which has no sampling steps, got {steps}."
        )
    changed: Synthesizer = type(synthesizer).from_stored(  # type: ignore[attr-defined]
        stored._replace(settings={**stored.settings, "steps": steps}),
        device=device_of(synthesizer),
        dtype=None,
    )
    changed.trained_on = synthesizer.trained_on  # type: ignore[attr-defined]
    return changed


def _call_factory(name: str, what: str) -> Any:
    folder = "a saved folder or " if what == "SYNTHESIZER" else ""
    return call_by_name(name, what, f"{folder}package.module:factory")
