"""What SYNTHESIZER on the command line stands for: a saved folder, or ``package.module:factory``."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import torch

from torchgenaug import ClassLabels, SyntheticSequence, load_synthesizer
from torchgenaug.contracts import Synthesizer
from torchgenaug.errors import ConfigurationError


def load_sequence(
    name: str,
    *,
    seed: int,
    num_classes: int | None,
    class_weights: str | None,
    steps: int | None,
    device: str | None,
) -> SyntheticSequence:
    """The sequence that a command is to render.

    Args:
        name: a folder that `save_synthesizer` wrote, or ``package.module:factory``, a function without arguments that
            returns a synthesizer or a sequence. Modules are also looked for in the working directory.
        seed: base seed; a factory that returns a sequence sets its own.
        num_classes: balanced class labels as conditions; default: what the synthesizer says about itself.
        class_weights: shares of the classes, numbers with commas between them.
        steps: sampling steps instead of the saved ones, for a diffusion model.
        device: where a saved synthesizer computes; default: the GPU of this process if there is one, see `own_device`.

    Raises:
        ConfigurationError: neither of the two, a factory that returns something else, or unfit settings.
        SynthesizerLoadError: a folder that cannot be loaded.
    """
    place = own_device(device)
    made = _call_factory(name) if ":" in name and not Path(name).exists() else load_synthesizer(name, device=place)
    if isinstance(made, SyntheticSequence):
        if seed or num_classes is not None or class_weights is not None or steps is not None:
            raise ConfigurationError(
                "--seed, --classes, --class-weights and --steps must be left out for a factory that returns a "
                f"SyntheticSequence, which has its own, got {name!r}. Set them in the factory."
            )
        return made
    if not isinstance(made, Synthesizer):
        raise ConfigurationError(
            f"SYNTHESIZER must give a synthesizer or a SyntheticSequence, got {type(made).__name__} from {name!r}. "
            "Let the function return DiffusersSynthesizer(...), ModuleSynthesizer(...) or a SyntheticSequence of one."
        )
    if steps is not None:
        made = _with_steps(made, steps)
    weights = None if class_weights is None else _numbers(class_weights)
    classes = num_classes
    if classes is None:
        classes = getattr(made, "num_classes", None) if weights is None else len(weights)
    return SyntheticSequence(made, None if classes is None else ClassLabels(classes, weights=weights), seed=seed)


def own_device(device: str | None) -> str:
    """Where this process computes: with a launcher, the GPU of its number on this machine (``LOCAL_RANK``).

    Makes it torch's current GPU, so that a factory that says "cuda" gets the same.

    Args:
        device: what the user asked for; None: a GPU if there is one, "cuda" without a number: this process's own.
    """
    if device not in (None, "cuda") or not torch.cuda.is_available():
        return device or "cpu"
    local = os.environ.get("LOCAL_RANK", "0")
    number = int(local) % torch.cuda.device_count() if local.isdecimal() else 0
    torch.cuda.set_device(number)
    return f"cuda:{number}"


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigurationError(
            f"--class-weights must be numbers with commas between them, got {text!r}. For example: 0.5,0.3,0.2"
        ) from error


def _with_steps(synthesizer: Synthesizer, steps: int) -> Synthesizer:
    """The same diffusion model with another number of sampling steps."""
    from torchgenaug.synthesizers import DiffusersSynthesizer

    if not isinstance(synthesizer, DiffusersSynthesizer):
        raise ConfigurationError(
            f"--steps must be left out for a {type(synthesizer).__name__}, which has no sampling steps, got {steps}."
        )
    settings = synthesizer.settings | {"steps": steps, "dtype": synthesizer.dtype}
    changed = DiffusersSynthesizer(
        synthesizer.unet, synthesizer.scheduler, vae=synthesizer.vae, device=synthesizer.device, **settings
    )
    changed.trained_on = synthesizer.trained_on
    return changed


def _call_factory(name: str) -> Any:
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"SYNTHESIZER must be a saved folder or package.module:factory, got {name!r}: {error}. "
            "Run the command where the module can be imported, or give the path of a folder."
        ) from error
    factory = getattr(module, function_name, None)
    if not callable(factory):
        raise ConfigurationError(
            f"SYNTHESIZER must name a function of {module_name!r}, got {function_name!r}, which it does not have. "
            f"It has: {', '.join(key for key, value in vars(module).items() if callable(value) and key[0] != '_')}."
        )
    return factory()
