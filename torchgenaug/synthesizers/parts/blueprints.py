"""Networks that can be saved without pickling: a class of a known library and its arguments, as JSON."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from torchgenaug.errors import ConfigurationError, SynthesizerLoadError, missing_extra

# Library → where its networks live, and the extra that installs it. Nothing else is ever imported for a saved folder.
_LIBRARIES: Mapping[str, tuple[str, str | None]] = {
    "torchgenaug": ("torchgenaug.nets", None),
    "monai": ("monai.networks.nets", "monai"),
    "diffusers": ("diffusers", None),
}


_ELSEWHERE = re.compile(r"(^|_)(pretrained|url|path|file)(_|$)")


def build_network(name: str, /, **arguments: Any) -> nn.Module:
    """A network that `save_synthesizer` can save, because it remembers how it was built.

    Args:
        name: ``library:Class``: ``torchgenaug:`` and a class of `torchgenaug.nets`, ``monai:`` and one of
            ``monai.networks.nets``, ``diffusers:`` and a model of diffusers.
        arguments: its constructor's, JSON-ready: numbers, strings, booleans, None, lists (tuples become lists), dicts.

    Returns:
        The network, with the attribute ``blueprint``: ``{"class": name, "arguments": arguments}``.

    Raises:
        ConfigurationError: an unknown library or class, arguments that JSON cannot hold or that the class refuses.
        MissingExtraError: the library is not installed.

    Example:
        >>> build_network("torchgenaug:DCGANGenerator", latent_dim=16, shape=[1, 32, 32], width=8).blueprint["class"]
        'torchgenaug:DCGANGenerator'
    """
    library, _, class_name = name.partition(":")
    if library not in _LIBRARIES or not class_name.isidentifier() or class_name.startswith("_"):
        raise ConfigurationError(
            f"`name` must be library:Class with one of the libraries {', '.join(_LIBRARIES)}, got {name!r}. "
            "Put a network of your own into code that calls your factory: package.module:factory."
        )
    try:
        plain = json.loads(json.dumps(arguments, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"`arguments` of {name} must be JSON-ready, got {arguments!r} ({error}). Use numbers, strings, booleans, "
            "None, lists and dicts."
        ) from error
    elsewhere = sorted(_elsewhere(plain))
    if elsewhere:
        raise ConfigurationError(
            f"`arguments` of {name} must make the network alone, got {', '.join(elsewhere)}, which read files or fetch "
            "them. Build it without, and load its weights with load_state_dict."
        )
    cls = _network_class(library, class_name)
    try:
        network: nn.Module = cls(**plain)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"`arguments` of {name} must be what its constructor takes, got {plain!r}, which fails with {error!r}."
        ) from error
    network.blueprint = {"class": name, "arguments": plain}  # type: ignore[assignment]
    return network


def blueprint_of(network: nn.Module, role: str) -> dict[str, Any]:
    """How to build `network` again (without its weights).

    Raises:
        ConfigurationError: neither made by `build_network` nor a model of diffusers.
    """
    blueprint = getattr(network, "blueprint", None)
    if isinstance(blueprint, dict):
        return dict(blueprint)
    describe: Any = getattr(network, "to_json_string", None)
    if type(network).__module__.startswith("diffusers.models") and describe is not None:
        config = json.loads(describe())
        arguments = {key: value for key, value in config.items() if not key.startswith("_")}
        return {"class": f"diffusers:{type(network).__name__}", "arguments": arguments}
    raise ConfigurationError(
        f"`{role}` must be a network that knows how it was built to be saved, got a {type(network).__name__}. Build it "
        "with build_network('monai:…' or 'torchgenaug:…', …) and load its weights; or put the code that builds the "
        "synthesizer into a function of an importable module, and name that where a saved folder is asked for: "
        "package.module:factory."
    )


def from_blueprint(blueprint: object, place: str) -> nn.Module:
    """The network, with fresh weights.

    Raises:
        SynthesizerLoadError: not a blueprint, or one that cannot be built.
    """
    if not (
        isinstance(blueprint, dict)
        and set(blueprint) == {"class", "arguments"}
        and isinstance(blueprint["class"], str)
        and isinstance(blueprint["arguments"], dict)
    ):
        raise SynthesizerLoadError(
            f"A network must be described by its class and arguments, got {str(blueprint)[:80]!r} at {place}. "
            "Save the synthesizer again."
        )
    try:
        return build_network(blueprint["class"], **blueprint["arguments"])
    except ConfigurationError as error:
        raise SynthesizerLoadError(f"{error} (at {place})") from error


def _elsewhere(value: Any) -> set[str]:
    """Names of the arguments, at any depth, with which constructors look beyond themselves."""
    if isinstance(value, dict):
        named = {key for key, part in value.items() if _ELSEWHERE.search(key) and part not in (None, False)}
        return named.union(*map(_elsewhere, value.values()))
    if isinstance(value, list):
        return set().union(*map(_elsewhere, value))
    return {repr(value)} if isinstance(value, str) and "://" in value else set()


def _network_class(library: str, class_name: str) -> Any:
    home, extra = _LIBRARIES[library]
    try:
        module = importlib.import_module(home)
    except ImportError as error:
        raise missing_extra(f"A {library} network", package=library, extra=extra or library) from error
    cls = getattr(module, class_name, None)
    # Of the library itself: a name that the package merely imported is not a network that it offers.
    if not (isinstance(cls, type) and issubclass(cls, nn.Module) and cls.__module__.split(".")[0] == library):
        raise ConfigurationError(f"`name` must be a network of {home}, got {class_name!r}, which is none.")
    return cls
