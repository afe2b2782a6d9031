"""How a synthesizer calls its network: as it is, compiled, or replayed as a CUDA graph."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.cuda_graphs import GraphReplay
from torchgenaug.synthesizers.parts.options import Compute

Call = Callable[..., Tensor]
"""A function of a module that can be imported by name: (network, *tensors or None) → tensor."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What makes a network faster, checked.

    Attributes:
        channels_last: memory layout of the weights; None: what the synthesizer takes for best.
        compile: backend of torch.compile, or None.
        cuda_graph: whether calls are replayed from a CUDA graph.
    """

    channels_last: bool | None = None
    compile: str | None = None
    cuda_graph: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen, JSON-ready; nothing where nothing was, so that fingerprints without options stay valid."""
        return self.decisive | ({"cuda_graph": True} if self.cuda_graph else {})

    @property
    def decisive(self) -> dict[str, Any]:
        """The part of it that changes samples, in their last digits. A CUDA graph runs the very same kernels."""
        settings: dict[str, Any] = {}
        if self.channels_last is not None:
            settings["channels_last"] = self.channels_last
        if self.compile is not None:
            settings["compile"] = self.compile
        return settings


def checked_execution(compute: Compute, device: torch.device) -> Execution:
    """The options as they will be used on `device`.

    Raises:
        ConfigurationError: an unknown backend, a layout that is no bool, or a CUDA graph on another device.
    """
    channels_last, cuda_graph = compute.channels_last, compute.cuda_graph
    if channels_last is not None and not isinstance(channels_last, bool):
        raise ConfigurationError(
            f"`channels_last` must be True, False or None, got {channels_last!r}. None takes the layout that was "
            "faster where it was measured."
        )
    if cuda_graph and device.type != "cuda":
        raise ConfigurationError(
            f"`cuda_graph` must be False on {device}, got {cuda_graph!r}. Only NVIDIA GPUs replay graphs. Pass "
            "device='cuda', or leave cuda_graph out."
        )
    return Execution(channels_last, _checked_backend(compute.compile), bool(cuda_graph))


def with_layout(module: nn.Module, channels_last: bool) -> nn.Module:
    """Gives the weights of convolutions, 2D and 3D, the layout with or without channels last; changes `module`."""
    for parameter in module.parameters():
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        if parameter.ndim in formats:
            layout = formats[parameter.ndim] if channels_last else torch.contiguous_format
            parameter.data = parameter.data.to(memory_format=layout)
    return module


class Caller:
    """Calls ``call(module, *inputs)`` as the options say. Picklable: what was compiled or captured is not kept.

    Safe in threads. One compilation and one graph per shape of the inputs: code for shapes that vary would depend on
    which shapes came before, and so would the last digits of the samples.
    """

    def __init__(self, call: Call, execution: Execution) -> None:
        self._call, self._execution = call, execution
        self._compiled: dict[tuple[Any, ...], Call] = {}
        self._lock = threading.Lock()
        self._graphs = GraphReplay() if execution.cuda_graph else None

    def __call__(self, module: nn.Module, *inputs: Tensor | None) -> Tensor:
        """The network's output, a tensor of its own."""
        if self._graphs is not None:
            return self._graphs(self._run, module, *inputs)
        return self._run(module, *inputs)

    def _run(self, module: nn.Module, *inputs: Tensor | None) -> Tensor:
        if self._execution.compile is None:
            return self._call(module, *inputs)
        key = tuple(None if value is None else (tuple(value.shape), value.dtype) for value in inputs)
        compiled = self._compiled.get(key)
        if compiled is not None:
            return compiled(module, *inputs)
        with self._lock:
            compiled = self._compiled.get(key) or _compiled(self._call, self._execution.compile)
            try:
                output = compiled(module, *inputs)
            except Exception as error:
                error.add_note(
                    f"This was the first call of {type(module).__name__} compiled by {self._execution.compile!r}. "
                    "inductor needs a C++ compiler on a CPU, Triton on a GPU. Leave `compile` out where that is absent."
                )
                raise
            self._compiled[key] = compiled
        return output

    def __getstate__(self) -> dict[str, Any]:
        return {"call": self._call, "execution": self._execution}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["call"], state["execution"])  # type: ignore[misc]


def _compiled(call: Call, backend: str) -> Call:
    # torch.compile counts recompilations per code object, and runs what comes after the eighth uncompiled, silently.
    # A code object of its own for each shape keeps the count at one.
    own = types.FunctionType(call.__code__.replace(), call.__globals__, call.__name__)
    compiled: Call = torch.compile(own, backend=backend, dynamic=False)
    return compiled


def _checked_backend(backend: bool | str) -> str | None:
    if backend is None or backend is False:
        return None
    if backend is True:
        return "inductor"
    known = torch.compiler.list_backends(exclude_tags=())
    if not isinstance(backend, str) or backend not in known:
        raise ConfigurationError(
            f"`compile` must be True, False or the name of a backend of torch.compile, got {backend!r}. Known here: "
            f"{', '.join(sorted(torch.compiler.list_backends()))}. compile=True is inductor."
        )
    return backend
