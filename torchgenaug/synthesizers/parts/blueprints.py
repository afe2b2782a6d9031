"""Networks that can be saved without pickling: a class of a known library and its arguments, as JSON."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from torchgenaug.errors import ConfigurationError, SynthesizerLoadError, missing_extra
from torchgenaug.synthesizers.parts.building import Construction, check_numbers
from torchgenaug.synthesizers.parts.known_networks import KNOWN_NETWORKS

# Library → where its networks live, and the extra that installs it. Nothing else is imported without consent.
_LIBRARIES: Mapping[str, tuple[str, str | None]] = {
    "torchgenaug": ("torchgenaug.nets", None),
    "monai": ("monai.networks.nets", "monai"),
    "diffusers": ("diffusers", None),
}

_ELSEWHERE = re.compile(r"(^|_)(pretrained|url|path|file)(_|$)")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def build_network(name: str, /, **arguments: Any) -> nn.Module:
    """A network that `save_synthesizer` can save, because it remembers how it was built.

    Args:
        name: ``library:Class``: ``torchgenaug:`` and a class of `torchgenaug.nets`, ``monai:`` and one of
            ``monai.networks.nets``, ``diffusers:`` and a model of diffusers; or ``package.module:Class`` of your own
            code, which `load_synthesizer` imports only with ``trust_code=True``.
        arguments: its constructor's, JSON-ready: numbers, strings, booleans, None, lists (tuples become lists), dicts.

    Returns:
        The network, with the attribute ``blueprint``: ``{"class": name, "arguments": arguments}``. Its weights are
        drawn from torch's global generators, as those of any network that you build.

    Raises:
        ConfigurationError: an unknown library or class, arguments that JSON cannot hold or that the class refuses, or
            with which it would read files or fetch weights.
        MissingExtraError: the library is not installed.

    Example:
        >>> build_network("torchgenaug:DCGANGenerator", latent_dim=16, shape=[1, 32, 32], width=8).blueprint["class"]
        'torchgenaug:DCGANGenerator'
    """
    library, _, class_name = name.partition(":")
    if not _MODULE.fullmatch(library) or not class_name.isidentifier() or class_name.startswith("_"):
        raise ConfigurationError(
            f"`name` must be library:Class with one of the libraries {', '.join(_LIBRARIES)}, or package.module:Class "
            f"of your own, got {name!r}. For example: build_network('monai:DiffusionModelUNet', spatial_dims=2, …)."
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
    downloads = [name for name in _elsewhere_by_default(cls) if name not in plain] if library in _LIBRARIES else []
    if downloads:
        raise ConfigurationError(
            f"`{downloads[0]}` must be given for {name}, whose default fetches weights. Nothing is ever fetched here. "
            f"Pass {downloads[0]}=False, and load weights with load_state_dict."
        )
    try:
        network: nn.Module = cls(**plain)
    except (ConfigurationError, SynthesizerLoadError):
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
        "with build_network('monai:…', 'torchgenaug:…' or 'package.module:Class' of your own, …) and load its weights; "
        "or put the code that builds the synthesizer into a function of an importable module, and name that where a "
        "saved folder is expected: package.module:factory."
    )


def from_blueprint(
    blueprint: object,
    place: str,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    trust_code: bool = False,
) -> nn.Module:
    """The network, with fresh weights; torch's global random state stays as it is.

    Args:
        blueprint: what `blueprint_of` returns.
        place: of the blueprint, for errors.
        shapes: of the weights that it will be given: a network far larger than these is refused. None: any size.
        trust_code: whether classes beyond `KNOWN_NETWORKS` may be imported and called.

    Raises:
        SynthesizerLoadError: not a blueprint, or one that cannot or must not be built.
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
    name, arguments = blueprint["class"], blueprint["arguments"]
    if not trust_code:
        check_numbers(arguments, place)
        _check_known(name, arguments, place)
    try:
        with Construction(shapes):
            return build_network(name, **arguments)
    except (ConfigurationError, SynthesizerLoadError) as error:
        raise SynthesizerLoadError(f"{error} (at {place})") from error


def _check_known(name: str, arguments: Mapping[str, Any], place: str) -> None:
    """Raises `SynthesizerLoadError` unless the class is a known one and all arguments are its constructor's."""
    library, _, class_name = name.partition(":")
    if class_name not in KNOWN_NETWORKS.get(library, ()):
        raise SynthesizerLoadError(
            f"A network must be of a class that is known to be safe, got {name[:80]!r} at {place}. Building another "
            "one runs its code. If you trust whoever made the folder: load_synthesizer(path, trust_code=True)."
        )
    unknown = sorted(set(arguments) - _parameters(_network_class(library, class_name)))
    if unknown:
        raise SynthesizerLoadError(
            f"`arguments` of {name} must be those of its constructor, got {', '.join(unknown)[:200]} at {place}. It "
            f"may come from another version of {library}. Save the synthesizer again."
        )


def _parameters(cls: Any) -> set[str]:
    """The names of a constructor's arguments, without those that read files or fetch weights."""
    found = inspect.signature(cls.__init__).parameters.values()
    named = {each.name for each in found if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    return {name for name in named - {"self"} if not _ELSEWHERE.search(name)}


def _elsewhere_by_default(cls: Any) -> list[str]:
    found = inspect.signature(cls.__init__).parameters.values()
    return [
        each.name for each in found if _ELSEWHERE.search(each.name) and each.default not in (None, False, each.empty)
    ]


def _elsewhere(value: Any) -> set[str]:
    """Names of the arguments, at any depth, with which constructors look beyond themselves."""
    if isinstance(value, dict):
        named = {key for key, part in value.items() if _ELSEWHERE.search(key) and part not in (None, False)}
        return named.union(*map(_elsewhere, value.values()))
    if isinstance(value, list):
        return set().union(*map(_elsewhere, value))
    return {repr(value)} if isinstance(value, str) and "://" in value else set()


def _network_class(library: str, class_name: str) -> Any:
    home, extra = _LIBRARIES.get(library, (library, None))
    try:
        module = importlib.import_module(home)
    except ImportError as error:
        if library not in _LIBRARIES:
            raise ConfigurationError(
                f"`name` must be a class of a module that can be imported, got {library}:{class_name}, which fails "
                f"with {error!r}. Install the package, or run where Python finds it."
            ) from error
        raise missing_extra(f"A {library} network", package=library, extra=extra or library) from error
    cls = getattr(module, class_name, None)
    # Of the library itself: a name that the package merely imported is not a network that it offers.
    own = library not in _LIBRARIES or getattr(cls, "__module__", "").split(".")[0] == library
    if not (isinstance(cls, type) and issubclass(cls, nn.Module) and own):
        raise ConfigurationError(f"`name` must be a network of {home}, got {class_name!r}, which is none.")
    return cls
