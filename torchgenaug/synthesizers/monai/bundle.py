"""Reads the networks of a MONAI bundle without running anything in it.

A bundle is ``configs/inference.json`` (or ``.yaml``) and ``models/*.pt``: a program as data, and pickled weights. Of
the program only the definitions of networks and of the scheduler are read, as plain data: no ``$`` expression is
evaluated, no ``_target_`` outside the lists below is imported, and the rest (imports, savers, samplers, handlers) is
not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from torch import Tensor, nn

from torchgenaug.errors import SynthesizerLoadError, missing_extra
from torchgenaug.nets.one_pass import NETWORKS
from torchgenaug.synthesizers.monai.config import find_configuration, inside
from torchgenaug.synthesizers.monai.definitions import find_definition
from torchgenaug.synthesizers.monai.networks import AUTOENCODERS, CONTROLNETS, UNETS
from torchgenaug.synthesizers.monai.one_pass import one_pass_arguments
from torchgenaug.synthesizers.monai.schedulers import SCHEDULERS
from torchgenaug.synthesizers.parts.blueprints import from_blueprint
from torchgenaug.synthesizers.parts.building import MAX_TIMESTEPS, check_numbers
from torchgenaug.synthesizers.parts.model_files import read_pickle, tensor_shapes

_ROLES: Mapping[str, tuple[str, ...]] = {"unet": UNETS, "autoencoder": AUTOENCODERS, "controlnet": CONTROLNETS}
# Where bundles of the model zoo keep the weights; safetensors, which need no trust, come first.
_FILES: Mapping[str, tuple[str, ...]] = {
    "unet": ("model", "model_diffusion", "diffusion", "unet"),
    "autoencoder": ("model_autoencoder", "autoencoder", "vae"),
    "controlnet": ("model_controlnet", "controlnet"),
    "generator": ("model", "generator", "model_generator", "netG", "decoder", "vae"),
}
# Under which keys checkpoints of trainers keep the weights.
_WRAPPED = ("state_dict", "model", "network", "net", "model_state_dict", "ema", "g_net", "netG", "generator")


class MonaiParts(TypedDict):
    """The arguments of `MonaiSynthesizer` that a bundle holds."""

    unet: nn.Module
    scheduler: Any
    autoencoder: nn.Module | None
    controlnet: nn.Module | None


def load_monai_bundle(
    path: str | Path,
    *,
    config: str | Sequence[str] | None = None,
    weights: Mapping[str, str] | None = None,
    allow_pickle: bool = False,
) -> MonaiParts:
    """Networks and scheduler of a MONAI bundle, for ``MonaiSynthesizer(**load_monai_bundle(path), size=…, …)``.

    The networks can be saved by `save_synthesizer`, as safetensors: do it once, and nothing pickled is needed again.

    Args:
        path: the bundle's folder.
        config: its configuration, JSON or YAML, inside the folder; or several, of which later ones count first, as in
            ``monai.bundle run --config_file``. Default: ``configs/inference.json`` or ``configs/infer.json`` (or
            ``.yaml``, ``.yml``) over ``configs/common`` with one of these endings.
        weights: ``unet``, ``autoencoder``, ``controlnet``, ``generator`` → file inside the folder; default:
            ``models/model.pt`` and the other usual names, ``.safetensors`` before ``.pt``.
        allow_pickle: read ``.pt`` files, by ``torch.load(weights_only=True)``: an unpickler that builds tensors and
            plain containers only, and no more secure than torch's restrictions are. Files of a source that you do not
            trust are better left alone.

    Returns:
        ``unet``, ``scheduler``, and ``autoencoder`` and ``controlnet`` (None where the bundle has none). Of a GAN
        (``Generator``) or VAE (``VarAutoEncoder``): ``unet`` is the generator or decoder, and the rest None;
        `MonaiSynthesizer` then returns a `ModuleSynthesizer`.

    Raises:
        SynthesizerLoadError: no such files, pickled weights without `allow_pickle`, definitions with expressions or of
            other classes, or weights that do not fit them.
        MissingExtraError: MONAI is not installed.

    Example:
        ::

            parts = load_monai_bundle("brain_image_synthesis_latent_diffusion_model", allow_pickle=True)
            synthesizer = MonaiSynthesizer(
                **parts, size=(160, 224, 160), value_range=(0, 1), network_range=(0, 1),
                covariates={"sex": (0, 1), "age": (0, 1), "ventricular_volume": (0, 1), "brain_volume": (0, 1)},
            )
    """
    folder = Path(path)
    place, content = find_configuration(folder, config)
    scheduler = find_definition(content, SCHEDULERS, "schedulers", place)
    one_pass = None if scheduler else find_definition(content, NETWORKS, "nets", place)
    if one_pass is not None:
        return _one_pass_parts(folder, one_pass, content, place, weights or {}, allow_pickle)
    alone = scheduler is None and find_definition(content, UNETS, "nets", place) is None
    if alone and find_definition(content, AUTOENCODERS, "nets", place) is not None:
        raise SynthesizerLoadError(
            f"{place} must define a scheduler and a diffusion model with its autoencoder, got the autoencoder alone. "
            "Its latents follow no known distribution: decoded noise would be no images. Name the configuration of the "
            "diffusion model with config=…; or, if it was trained as a VAE, pass a module whose forward is its "
            "decode() to ModuleSynthesizer(module, latent_shape=…, value_range=…)."
        )
    if scheduler is None:
        raise SynthesizerLoadError(
            f"{place} must define one scheduler of {SCHEDULERS}, got none. Name another file with config=…"
        )
    networks: dict[str, nn.Module | None] = {}
    for role, allowed in _ROLES.items():
        found = find_definition(content, allowed, "nets", place)
        if found is None:
            if role == "unet":
                raise SynthesizerLoadError(
                    f"{place} must define one {' or '.join(allowed)}, got none. It is no bundle of a diffusion "
                    "model, or the definition is in another file: config='configs/train_diffusion.json'."
                )
            networks[role] = None
            continue
        tensors = _tensors(folder, role, (weights or {}).get(role), allow_pickle)
        shapes = {key: tuple(value.shape) for key, value in tensors.items()}
        blueprint = {"class": f"monai:{found[0]}", "arguments": found[1]}
        network = from_blueprint(blueprint, str(place), shapes=shapes)
        _load_weights(network, tensors, f"{role} of {folder}")
        networks[role] = network
    return MonaiParts(
        unet=networks["unet"],  # type: ignore[typeddict-item]  # never None: see above
        scheduler=_scheduler(*scheduler, place),
        autoencoder=networks["autoencoder"],
        controlnet=networks["controlnet"],
    )


def _one_pass_parts(
    folder: Path,
    definition: tuple[str, dict[str, Any]],
    content: Mapping[str, Any],
    place: Path,
    weights: Mapping[str, str],
    allow_pickle: bool,
) -> MonaiParts:
    """The generator of a GAN or the decoder of a VAE, as `unet` without a scheduler."""
    arguments = one_pass_arguments(*definition, content, place)
    tensors = _tensors(folder, "generator", weights.get("generator", weights.get("unet")), allow_pickle)
    tensors = {f"network.{key.removeprefix('module.')}": value for key, value in tensors.items()}
    blueprint = {"class": "torchgenaug:OnePassNetwork", "arguments": arguments}
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    network = from_blueprint(blueprint, str(place), shapes=shapes)
    _load_weights(network, tensors, f"{definition[0]} of {folder}")
    return MonaiParts(unet=network, scheduler=None, autoencoder=None, controlnet=None)


def _scheduler(name: str, arguments: Mapping[str, Any], place: Path) -> Any:
    try:
        from monai.networks import schedulers
    except ImportError as error:
        raise missing_extra("load_monai_bundle", package="monai", extra="monai") from error
    check_numbers(arguments, str(place), MAX_TIMESTEPS)
    try:
        return getattr(schedulers, name)(**arguments)
    except Exception as error:
        raise SynthesizerLoadError(
            f"{place} must give {name} the arguments that it takes, got {dict(arguments)}, which fails with {error!r}."
        ) from error


def _tensors(folder: Path, role: str, file: str | None, allow_pickle: bool) -> dict[str, Tensor]:
    """The weights of one network, on the CPU."""
    tried = [file] if file else list(_candidates(role))
    path = next((found for found in (inside(folder, name) for name in tried) if found.exists()), None)
    if path is None:
        raise SynthesizerLoadError(
            f"{folder} must hold the weights of the {role}, got none of {tried}. Name the file: "
            f"weights={{{role!r}: 'models/…'}}."
        )
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensor_shapes(path)
        return load_file(path)
    if not allow_pickle:
        raise SynthesizerLoadError(
            f"Weights must be safetensors, got the pickle {path}. Pickles can run code. If you trust its source, pass "
            "allow_pickle=True (it is read with weights_only=True), and keep the result with save_synthesizer."
        )
    content = read_pickle(path, "Save the state_dict alone.")
    for key in (*_WRAPPED, role):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise SynthesizerLoadError(
            f"{path} must hold a state_dict, got {type(content).__name__} of other things. Save "
            "network.state_dict() with torch.save."
        )
    return content


def _candidates(role: str) -> Iterator[str]:
    for suffix in ("safetensors", "pt"):
        for name in _FILES[role]:
            yield f"models/{name}.{suffix}"


def _load_weights(network: nn.Module, tensors: dict[str, Tensor], place: str) -> None:
    """Loads `tensors`, those of networks from before MONAI 1.4 too."""
    tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    net: Any = network
    try:
        if set(tensors) != set(network.state_dict()) and hasattr(network, "load_old_state_dict"):
            net.load_old_state_dict(dict(tensors))
        else:
            network.load_state_dict(tensors)
    except Exception as error:
        raise SynthesizerLoadError(
            f"Weights must fit the definition of the network, got {error!r:.300} for the {place}. "
            "Name the right file: weights={'unet': 'models/…'}."
        ) from error
