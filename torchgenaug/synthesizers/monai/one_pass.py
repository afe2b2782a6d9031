"""Generators of GANs and decoders of VAEs in MONAI bundles: what the configuration states, and how they are sampled."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.nets.one_pass import OnePassNetwork
from torchgenaug.synthesizers.module.synthesizer import ModuleSynthesizer
from torchgenaug.synthesizers.parts.options import DiffusionOptions, checked_options

# Transforms behind the network that change no intensity.
_NEUTRAL = ("SaveImage", "EnsureType", "EnsureChannelFirst", "ToDevice", "ToTensor", "DeleteItems")
_DIFFUSION_ONLY = ("autoencoder", "controlnet", "null_class", "mask_classes", "source", "covariates")
# As in torch.rand(64), numpy.random.uniform(size=64) and Tensor.normal_().
_UNIFORM, _NORMAL = re.compile(r"\b(rand|uniform_?)\("), re.compile(r"\b(randn|(standard_)?normal_?)\(")


def one_pass_arguments(
    name: str, arguments: Mapping[str, Any], content: Mapping[str, Any], place: Path
) -> dict[str, Any]:
    """All arguments of `OnePassNetwork`, as the configuration's text states them; nothing is run.

    What it does not state is assumed, in a warning. The latents of a VAE are standard normal by definition.

    Args:
        name: class of the network.
        arguments: of its constructor.
        content: the whole configuration.
        place: of the configuration, for messages.

    Raises:
        SynthesizerLoadError: two distributions of latents, or post-processing that changes intensities otherwise.
    """
    expressions = [value for value in _values(content) if isinstance(value, str) and value.startswith("$")]
    is_vae = name == "VarAutoEncoder"
    uniform = not is_vae and any(_UNIFORM.search(text) for text in expressions)
    normal = is_vae or any(_NORMAL.search(text) for text in expressions)
    if uniform and normal:
        raise SynthesizerLoadError(f"{place} must draw latents from one distribution, got rand and randn. {_BY_HAND}")
    activation = _activation(content, place)
    assumed = [] if uniform or normal else ["latents are standard normal"]
    if activation is None and not (is_vae and arguments.get("use_sigmoid", True)):
        assumed.append("nothing follows the network, whose images are in network_range")
    if assumed:
        warnings.warn(f"{place} does not state it, so it is assumed: {'; '.join(assumed)}.", stacklevel=4)
    latents = "uniform" if uniform else "normal"
    return {"network": name, "arguments": dict(arguments), "latents": latents, "activation": activation}


def one_pass_synthesizer(network: OnePassNetwork, scheduler: object, settings: Mapping[str, Any]) -> ModuleSynthesizer:
    """The synthesizer of a network without noise levels.

    Args:
        network: the generator or decoder.
        scheduler: None.
        settings: keywords of `MonaiSynthesizer`; those of diffusion models alone are refused, `steps` is left out with
            a warning.

    Raises:
        ConfigurationError: settings that such a network does not have, or another `size` than its images have.
    """
    rest = dict(settings)
    size, value_range = rest.pop("size", None), rest.pop("value_range", None)
    output_range = rest.pop("network_range", None) or network.output_range or (-1.0, 1.0)
    surplus = [name for name in _DIFFUSION_ONLY if rest.pop(name, None) is not None]
    surplus += ["scale_factor"] if rest.pop("scale_factor", 1.0) != 1.0 else []
    surplus += ["label_channels"] if rest.pop("label_channels", 0) else []
    surplus += ["scheduler"] if scheduler is not None else []
    options: DiffusionOptions = {name: rest[name] for name in rest if name not in ("sampler", "compute")}  # type: ignore[assignment]
    sampler, compute = checked_options("MonaiSynthesizer", options, rest.get("sampler"), rest.get("compute"))
    surplus += [name for name in ("solver", "guidance_scale") if getattr(sampler, name) is not None]
    surplus += ["clip"] if sampler.clip else []
    if surplus:
        raise ConfigurationError(
            f"`{surplus[0]}` must be left out for a generator or decoder, got {', '.join(surplus)}: it makes an image "
            "in one pass, without conditions. Leave it out."
        )
    if "steps" in rest or rest.get("sampler") is not None:
        warnings.warn(
            f"`steps` is left out: {network.latent_shape} latents become images in one pass, as in any GAN or VAE.",
            stacklevel=3,
        )
    if value_range is None or size is None:
        raise ConfigurationError(
            f"`size` and `value_range` must be given, got size={size}, value_range={value_range}. For example "
            "size=(64, 64), value_range=(0, 1)."
        )
    synthesizer = ModuleSynthesizer(
        network, latent_shape=network.latent_shape, value_range=value_range, output_range=output_range, compute=compute
    )
    found = synthesizer.fields["image"].shape[1:]
    if tuple(size) != found:
        raise ConfigurationError(
            f"`size` must be that of the network's images, {found}, got {tuple(size)}. Pass size={found}, and resize "
            "the images afterwards if need be."
        )
    return synthesizer


_BY_HAND = (
    "Build the network with build_network('torchgenaug:OnePassNetwork', network=…, arguments=…, latents=…, "
    "activation=…), load its weights, and pass it to ModuleSynthesizer(module, latent_shape=…, value_range=…)."
)


def _activation(content: Mapping[str, Any], place: Path) -> str | None:
    """``"sigmoid"`` if the post-processing has one; None for none."""
    found = None
    for key, value in content.items():
        for part in _values(value) if key.startswith("post") else ():
            target = part.get("_target_") if isinstance(part, dict) and part.get("_disabled_") is not True else None
            if not isinstance(target, str):
                continue
            name = target.rpartition(".")[2].removesuffix("D").removesuffix("Dict").removesuffix("d")
            if name == "Activations":
                active = {setting for setting in ("sigmoid", "softmax", "other") if part.get(setting)}
                if active == {"sigmoid"} and part["sigmoid"] is True and found is None:
                    found = "sigmoid"
                    continue
                if not active:
                    continue
            if name != "Compose" and name not in _NEUTRAL:
                raise SynthesizerLoadError(
                    f"{place} must have no post-processing beyond one sigmoid, got {target!r} in {key!r}, which "
                    f"changes the images. {_BY_HAND}"
                )
    return found


def _values(value: Any) -> Iterator[Any]:
    """Every value inside, each object once: aliases of YAML can stand for more than could ever be walked."""
    pending, seen = [value], set()
    while pending:
        each = pending.pop()
        if isinstance(each, dict | list):
            if id(each) in seen:
                continue
            seen.add(id(each))
            pending += list(each.values()) if isinstance(each, dict) else each
        yield each
