"""`Weights`: the weights of a synthesizer, on its device or out of the way in host memory.

Tensors keep their identity and lose only their storage, so whatever refers to a module finds it again when it is back:
compiled code, other synthesizers of the same networks. A CUDA graph is captured anew, since addresses change.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torchgenaug.contracts import Movable, Placed, Synthesizer
from torchgenaug.devices import copies_from_pinned_memory, wait_for_stream
from torchgenaug.errors import ConfigurationError

_DEPTH = 4  # a synthesizer of synthesizers of denoisers of networks
_guard = threading.Lock()
_known: weakref.WeakValueDictionary[int, Weights] = weakref.WeakValueDictionary()


class Weights:
    """Parameters and buffers of all modules that a synthesizer holds; use `weights_of`.

    Several users may share them: they go when the last one lets go of them. Safe in threads.

    Args:
        synthesizer: one with `nn.Module`s among its attributes, or theirs; or with a method ``to(device)`` and an
            attribute ``device``.

    Raises:
        ConfigurationError: neither.
    """

    def __init__(self, synthesizer: Synthesizer) -> None:
        self._synthesizer = synthesizer  # alive as long as this is, so that its id is its own
        self._modules = list(_modules_in(synthesizer, _DEPTH, set()))
        self._move: Any = None
        self._home = synthesizer.device if isinstance(synthesizer, Placed) else None
        if not self._modules:
            if isinstance(synthesizer, Movable):
                self._move = synthesizer.to
            else:
                raise ConfigurationError(
                    f"`offload` must be False for a synthesizer whose weights cannot be found, got "
                    f"{type(synthesizer).__name__}: it has no torch.nn.Module among its attributes, nor a method "
                    "to(device) and an attribute device. Keep the network as an attribute."
                )
        self._lock = threading.Lock()
        self._users = 0
        self._away: list[tuple[Tensor, torch.device]] = []
        self._devices: set[torch.device] = set()
        self._is_away = False
        # Pinned memory is slow to get: it is kept for the next time, with the tensor that it is for.
        self._hosts: dict[int, tuple[Tensor, Tensor]] = {}

    def take(self) -> None:
        """Brings the weights to their device, if they are away; to be called before the synthesizer is used."""
        with self._lock:
            self._users += 1
            self._bring_back()

    def let_go(self) -> None:
        """Sends the weights to host memory, unless somebody else has taken them."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and not self._is_away:
                self._send_away()

    def restore(self, *, taken: bool = False) -> None:
        """Brings the weights back for good: for whoever uses the synthesizer next.

        Args:
            taken: the caller had taken them, and does not use them any more.
        """
        with self._lock:
            self._users -= taken
            self._bring_back()

    def _send_away(self) -> None:
        self._is_away = True
        self._devices = set() if self._home is None else {self._home}
        if self._move is not None:
            self._move(torch.device("cpu"))
            return
        parts = itertools.chain.from_iterable(
            itertools.chain(module.parameters(), module.buffers()) for module in self._modules
        )
        for tensor in {id(part): part for part in parts}.values():
            if on_accelerator(tensor):
                _, host = self._hosts.get(id(tensor), (tensor, None))
                if host is None or host.shape != tensor.shape or host.dtype != tensor.dtype:
                    pinned = copies_from_pinned_memory(tensor.device)
                    host = torch.empty_like(tensor.data, device="cpu", pin_memory=pinned)
                    self._hosts[id(tensor)] = (tensor, host)
                self._away.append((tensor, tensor.device))
                self._devices.add(tensor.device)
                tensor.data = host.copy_(tensor.data)

    def _bring_back(self) -> None:
        if not self._is_away:
            return
        if self._move is not None:
            self._move(self._home)
        while self._away:  # where memory runs out half-way, the next try goes on
            tensor, device = self._away[-1]
            tensor.data = tensor.data.to(device, non_blocking=True, copy=True)
            self._away.pop()
        for device in self._devices:
            wait_for_stream(device)  # whoever computes next may do so on another stream
        self._is_away = False


def weights_of(synthesizer: Synthesizer) -> Weights:
    """The one `Weights` of a synthesizer, whoever asks.

    Raises:
        ConfigurationError: as in `Weights`.
    """
    with _guard:
        weights = _known.get(id(synthesizer))
        if weights is None:
            _known[id(synthesizer)] = weights = Weights(synthesizer)
        return weights


def on_accelerator(tensor: Tensor) -> bool:
    """Whether there is anything to be won by moving it."""
    return tensor.device.type != "cpu"


def _modules_in(value: object, depth: int, seen: set[int]) -> Iterator[nn.Module]:
    """Modules among the attributes of an object, and theirs, down to some depth."""
    if id(value) in seen or depth < 0 or isinstance(value, Tensor | type | str | bytes):
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        yield value
        return
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    else:
        slots = itertools.chain.from_iterable(getattr(base, "__slots__", ()) for base in type(value).__mro__)
        parts = [getattr(value, name) for name in slots if hasattr(value, name)]
        parts += list(getattr(value, "__dict__", {}).values())
    for part in parts:
        yield from _modules_in(part, depth - 1, seen)
