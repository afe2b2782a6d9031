"""CUDA graphs: the kernels of one network call, launched at once instead of one by one from Python.

Reference:
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_WARM_UPS = 3  # as PyTorch's notes do: libraries choose their kernels and allocate their workspaces in the first calls
_MOST_GRAPHS = 8  # each keeps the activations of its shape


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: Any
    inputs: tuple[Tensor | None, ...]
    output: Tensor
    module: nn.Module
    weights: tuple[Tensor, ...]
    addresses: tuple[int, ...]

    def is_of(self, module: nn.Module) -> bool:
        """Whether it reads the weights of `module`, which are still where they were."""
        return module is self.module and self.addresses == _addresses(self.weights)


class GraphReplay:
    """Captures ``call(module, *inputs)`` once per shape and replays it.

    Safe in threads and streams: one replay at a time, because all share their buffers. A module whose weights moved
    (to another device and back, say) is captured again.

    Graphs are captured in the main thread only: while one is captured, torch refuses random numbers of the device to
    every other thread (seen with torch 2.11: "Offset increment outside graph capture encountered unexpectedly"), and a
    training loop would fail. Another thread replays what the main one captured; other shapes it computes without a
    graph, by the same kernels.
    """

    def __init__(self) -> None:
        self._graphs: dict[tuple[Any, ...], _Captured] = {}
        self._lock = threading.Lock()
        self._pool: Any = None
        self._done: Any = None
        self._warned = False

    def __call__(self, call: Callable[..., Tensor], module: nn.Module, *inputs: Tensor | None) -> Tensor:
        """The output, a tensor of its own.

        Args:
            call: always the same function; it must neither wait for the device nor look at values.
            module: its first argument.
            inputs: its other arguments, on the GPU.
        """
        key = tuple(None if value is None else (tuple(value.shape), value.dtype) for value in inputs)
        device = next(value.device for value in inputs if value is not None)
        with self._lock, torch.cuda.device(device):
            if self._done is None:
                self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
                self._pool = torch.cuda.graph_pool_handle()
            stream = torch.cuda.current_stream()
            # Another thread may have replayed on a stream of its own.
            stream.wait_event(self._done)
            captured = self._graphs.get(key)
            if captured is None or not captured.is_of(module):
                if threading.current_thread() is not threading.main_thread():
                    self._warn(key)
                    return call(module, *inputs)
                self._graphs.pop(key, None)
                while len(self._graphs) >= _MOST_GRAPHS:
                    del self._graphs[next(iter(self._graphs))]
                captured = self._graphs[key] = self._capture(call, module, inputs)
            for buffer, value in zip(captured.inputs, inputs, strict=True):
                if buffer is not None and value is not None:
                    buffer.copy_(value)
            captured.graph.replay()
            output = captured.output.clone()
            self._done.record(stream)
        return output

    def _warn(self, key: tuple[Any, ...]) -> None:
        if not self._warned:
            self._warned = True
            shapes = [shape[0] for shape in key if shape is not None]
            warnings.warn(
                f"No CUDA graph was captured for inputs {shapes} in a background thread: it would stop random numbers "
                "in the training loop. These calls run without a graph. SyntheticPool captures its `batch_size` when "
                "it is built; call the synthesizer once with other batch sizes in the main thread.",
                RuntimeWarning,
                stacklevel=4,
            )

    def _capture(self, call: Callable[..., Tensor], module: nn.Module, inputs: tuple[Tensor | None, ...]) -> _Captured:
        buffers = tuple(None if value is None else value.clone() for value in inputs)
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                call(module, *buffers)
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: what other threads do meanwhile (a training loop allocates) must not end the capture.
            with torch.cuda.graph(graph, pool=self._pool, stream=side, capture_error_mode="thread_local"):
                output = call(module, *buffers)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # The end of a capture that failed reports only that it failed.
            if isinstance(error.__context__, torch.OutOfMemoryError):
                raise error.__context__ from None
            error.add_note(
                "This was the capture of a CUDA graph. A network that waits for the GPU (.item(), .cpu(), shapes that "
                "depend on values) cannot be captured: leave `cuda_graph` out, or try `compile`."
            )
            raise
        weights = (*module.parameters(), *module.buffers())
        return _Captured(graph, buffers, output, module, weights, _addresses(weights))


def _addresses(weights: tuple[Tensor, ...]) -> tuple[int, ...]:
    return tuple(weight.data_ptr() for weight in weights)
