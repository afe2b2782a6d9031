"""Folders that pythae saved, read without executing what is in them; and pythae models as `PythaeNetwork`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torchgenaug.errors import ConfigurationError, SynthesizerLoadError, missing_extra
from torchgenaug.synthesizers.parts.blueprints import build_network
from torchgenaug.synthesizers.parts.building import Construction, check_numbers
from torchgenaug.synthesizers.parts.model_files import read_json, read_pickle

_CONFIG, _WEIGHTS = "model_config.json", "model.pt"
# Set by pythae itself, from the networks that it finds.
_DERIVED = {"name", "input_dim", "latent_dim", "discriminator_input_dim"}


def as_network(model: Any) -> Any | None:
    """The `PythaeNetwork` with the weights of a pythae model; None for one with networks of its own.

    A copy: nothing is shared with `model`.
    """
    from torchgenaug.nets.pythae import MODELS

    kind, config = type(model).__name__, getattr(model, "model_config", None)
    settings = dict(vars(config)) if config is not None else {}
    custom = [name for name, value in settings.items() if name.startswith("uses_default") and not value]
    known_class = type(model).__module__.startswith("pythae.models.") and kind in MODELS
    if not known_class or custom or settings.get("input_dim") is None:
        return None
    fields = {field.name for field in dataclasses.fields(config)} - _DERIVED  # type: ignore[arg-type]
    options = {name: settings[name] for name in sorted(fields) if not name.startswith("uses_default")}
    try:
        with Construction():
            network: Any = build_network(
                "torchgenaug:PythaeNetwork",
                model=kind,
                input_shape=list(settings["input_dim"]),
                latent_dim=int(settings["latent_dim"]),
                architecture="mlp",
                options=options,
            )
        network.model.load_state_dict(model.state_dict())
    except (ConfigurationError, RuntimeError):
        return None  # changed after it was built, or set to another encoder: its decoder is all that can be kept
    return network.to(next(model.parameters()).device)


def load_pythae_folder(
    path: str | Path, *, decoder: Any = None, encoder: Any = None, allow_pickle: bool = False
) -> Any:
    """The pythae model of a folder that ``model.save`` of pythae wrote; see `PythaeSynthesizer.from_folder`.

    ``AutoModel.load_from_folder`` of pythae unpickles the networks of a model and runs whatever they contain; here only
    JSON and tensors are read.

    Raises:
        SynthesizerLoadError: no such folder, pickles that are not allowed, or weights that do not fit.
        MissingExtraError: pythae is not installed.
    """
    folder = Path(path)
    config = _config(folder)
    custom = [
        name.removeprefix("uses_default_")
        for name, value in vars(config).items()
        if name.startswith("uses_default_") and not value
    ]
    kind = type(config).__name__.removesuffix("Config").removesuffix("_")
    given = {"decoder": decoder, "encoder": encoder}
    for part in ("decoder", *(["encoder"] if kind == "VAMP" else [])):
        if part in custom and given[part] is None:
            raise SynthesizerLoadError(
                f"`{part}` must be given for the model at {str(folder)!r}, which has one of its own, kept as "
                f"{part}.pkl. Such a file can run any code and is never opened. Build the module in your code and pass "
                f"it: PythaeSynthesizer.from_folder({str(folder)!r}, {part}=My{part.capitalize()}(...), "
                "allow_pickle=True); its weights are read from the folder."
            )
    weights = _weights(folder, allow_pickle)
    model = _built(config, kind, {name: module for name, module in given.items() if module is not None})
    # What is custom and was not given is not needed to sample: the encoder, the metric network, the discriminator.
    left_out = tuple(f"{part}." for part in custom if given.get(part) is None)
    state = {
        name: value for name, value in weights["model_state_dict"].items() if not name.startswith(left_out or ("\0",))
    }
    try:
        missing, surplus = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise SynthesizerLoadError(f"{folder / _WEIGHTS} must hold weights that fit {_CONFIG}: {error}") from error
    missing = [name for name in missing if not name.startswith(left_out or ("\0",))]
    if missing or surplus:
        raise SynthesizerLoadError(
            f"{folder / _WEIGHTS} must hold the weights of a {kind}; missing: {missing[:4]}, surplus: {surplus[:4]}. "
            "Is the module that you passed the one that was trained?"
        )
    if "M" in weights and "centroids" in weights:
        model.M_tens, model.centroids_tens = weights["M"], weights["centroids"]
    return model.eval()


def _config(folder: Path) -> Any:
    try:
        from pythae import models
    except ImportError as error:
        raise missing_extra("A folder of pythae", package="pythae", extra="vae") from error
    file = folder / _CONFIG
    if not file.exists():
        raise SynthesizerLoadError(
            f"`path` must be a folder that pythae saved, with {_CONFIG}, got {str(folder)!r} without it. Check the "
            "path; pythae's trainer writes such folders as final_model."
        )
    try:
        content = read_json(file)
        check_numbers(content, str(file))
        name = content.pop("name")
        cls = getattr(models, name) if name in models.__all__ and name.endswith("Config") else None
        if cls is None:
            raise SynthesizerLoadError(f"{file} must name a configuration of a pythae model, got {str(name)[:80]!r}.")
        if content.get("input_dim") is not None:
            content["input_dim"] = tuple(content["input_dim"])
        config = cls(**content)
    except SynthesizerLoadError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError, AssertionError) as error:
        raise SynthesizerLoadError(
            f"{file} must be a configuration of pythae, got {error!r}. Save the model again."
        ) from error
    return config


def _weights(folder: Path, allow_pickle: bool) -> dict[str, Any]:
    file = folder / _WEIGHTS
    if not file.exists():
        raise SynthesizerLoadError(f"`path` must be a folder with {_WEIGHTS}, got {str(folder)!r} without it.")
    if not allow_pickle:
        raise SynthesizerLoadError(
            f"{file} must not be a pickle, which is all that pythae writes. Nothing of it was read. If you trust where "
            f"it comes from: PythaeSynthesizer.from_folder({str(folder)!r}, allow_pickle=True), which reads it with "
            "torch's weights_only=True; then save_synthesizer, which writes no pickles."
        )
    weights = read_pickle(file, "Fetch it again, or save the model with pythae 0.1.")
    if not isinstance(weights, dict) or not isinstance(weights.get("model_state_dict"), dict):
        got = sorted(weights) if isinstance(weights, dict) else type(weights).__name__
        raise SynthesizerLoadError(f"{file} must hold `model_state_dict`, got {got}. Save the model with pythae again.")
    return weights


def _built(config: Any, kind: str, given: dict[str, Any]) -> Any:
    from pythae import models

    for name in list(vars(config)):
        if name.startswith("uses_default_"):
            setattr(config, name, True)  # pythae sets them anew from what it is given
    try:
        with Construction():
            return getattr(models, kind)(config, **given)
    except Exception as error:
        raise SynthesizerLoadError(
            f"{kind} must be built from its configuration and the modules that you pass, got {error!r}. pythae wants "
            "subclasses of its BaseDecoder and BaseEncoder."
        ) from error
