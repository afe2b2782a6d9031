"""Training while the pool is refreshed in the background, over training alone plus generating alone.

Below 1, some of the generation is hidden behind the training. Both take about as long alone: that is where most can be
hidden. A thread shares Python's lock and, unless it is given a stream of its own, the GPU's queue with the training.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from benchmarks.gpu import networks
from benchmarks.gpu.loop import FIELDS, Repeated, Training, loader
from benchmarks.gpu.settings import Record, Settings
from torchgenaug import (
    ClassLabels,
    DiffusersSynthesizer,
    FieldSpec,
    SyntheticMixLoader,
    SyntheticPool,
    SyntheticSequence,
)
from torchgenaug.types import Batch

RATIO = 0.25


class OnStream:
    """A synthesizer whose work goes to a CUDA stream of its own: lower numbers have priority, 0 is the lowest."""

    def __init__(self, synthesizer: Any, priority: int) -> None:
        self.synthesizer, self.priority = synthesizer, priority
        self.device = synthesizer.device
        self.num_classes = synthesizer.num_classes
        self._stream: Any = None

    @property
    def fields(self) -> Mapping[str, FieldSpec]:
        """Those of the synthesizer."""
        found: Mapping[str, FieldSpec] = self.synthesizer.fields
        return found

    @property
    def fingerprint(self) -> str:
        """That of the synthesizer: a stream changes no sample."""
        return str(self.synthesizer.fingerprint)

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """The samples, when they are done."""
        if self._stream is None:
            self._stream = torch.cuda.Stream(self.device, priority=self.priority)
        with torch.cuda.stream(self._stream):
            batch: Batch = self.synthesizer.synthesize(seeds, conditions)
        self._stream.synchronize()
        for values in batch.values():
            # The caller reads them on its own stream: until then their memory must not be used again on this one.
            values.record_stream(torch.cuda.current_stream(self.device))
        return batch


def measure(settings: Settings, record: Record) -> None:
    """For a large and a small model, each way to refresh."""
    large, small = Size(64, (64, 128, 256), 64, 512), Size(32, (32, 64), 16, 2048)
    sizes = settings.pick({"large": large, "small": small}, {"tiny": Size(8, (4, 8), 4, 8)})
    for name, size in sizes.items():
        for how, options in ways(settings).items():
            record(f"{name} model, {how}", refreshed(settings, size, dict(options)))


class Size(NamedTuple):
    """Side of the images, channels of the denoiser and of the classifier, and samples of a pool."""

    side: int
    widths: tuple[int, ...]
    width: int
    capacity: int


def ways(settings: Settings) -> dict[str, dict[str, Any]]:
    thread = {"background": True}
    found: dict[str, dict[str, Any]] = {"thread": thread, "process": {"background": "process"}}
    if settings.is_cuda:
        found |= {
            "thread, own stream": {**thread, "priority": 0},
            "thread, own stream before the training's": {**thread, "priority": -1},
            "thread, own stream, half precision, CUDA graph": {
                **thread, "priority": 0, "dtype": settings.half, "cuda_graph": True
            },
        }  # fmt: skip
    return found


def refreshed(settings: Settings, size: Size, options: dict[str, Any]) -> dict[str, Any]:
    side, widths, width, capacity = size
    batch_size, epochs = settings.pick((64, 2), (4, 1))
    background, priority = options.pop("background"), options.pop("priority", None)
    sequence = sequence_of(settings, side, widths, priority, options)
    pool_options: dict[str, Any] = {"batch_size": batch_size, "device": settings.device}
    made_s = generating(settings, sequence, batch_size, settings.pick(256, 8))
    training = Training(settings, width)
    with SyntheticPool(sequence, capacity, refresh=0, **pool_options) as frozen:
        frozen.set_epoch(0)
        few = settings.pick(40, 2)
        step_s = run_epochs(training, mixed(settings, side, few, batch_size, frozen), 1) / few
        step_s = run_epochs(training, mixed(settings, side, few, batch_size, frozen), 1) / few
        # As long as a window takes to be made.
        steps = settings.pick(max(20, min(600, round(made_s * capacity / step_s))), 3)
        alone_s = run_epochs(training, mixed(settings, side, steps, batch_size, frozen), epochs)
    with SyntheticPool(sequence, capacity, refresh=1.0, background=background, **pool_options) as pool:
        loader_of_both = mixed(settings, side, steps, batch_size, pool)
        pool.set_epoch(0)
        before, waited_s = pool.stats.generated, pool.stats.wait_s
        both_s = run_epochs(training, loader_of_both, epochs, moves=True)
        generated, waited_s = pool.stats.generated - before, pool.stats.wait_s - waited_s
    generating_s = generated * made_s
    return {
        "ratio": both_s / (alone_s + generating_s),
        "both_s": both_s,
        "training_alone_s": alone_s,
        "generating_alone_s": generating_s,
        "waited_s": waited_s,
        "generated": generated,
        "steps_per_epoch": steps,
        "training_step_ms": 1e3 * step_s,
        "made_per_s_alone": 1 / made_s,
    }


def sequence_of(
    settings: Settings, side: int, widths: tuple[int, ...], priority: int | None, options: dict[str, Any]
) -> SyntheticSequence:
    from diffusers import DDIMScheduler

    net = networks.unet(widths, side, classes=2)
    common: dict[str, Any] = {"steps": settings.pick(10, 2), "value_range": (0, 1), "clip": True}
    made: Any = DiffusersSynthesizer(net, DDIMScheduler(), **common, device=settings.device, **options)
    return SyntheticSequence(made if priority is None else OnStream(made, priority), ClassLabels(2))


def generating(settings: Settings, sequence: SyntheticSequence, batch_size: int, count: int) -> float:
    """Seconds per sample, alone."""
    sequence.batch(range(batch_size))
    starts = range(0, count, batch_size)
    return settings.seconds(lambda: [sequence.batch(range(k, k + batch_size)) for k in starts]) / count


def mixed(settings: Settings, side: int, steps: int, batch_size: int, pool: SyntheticPool) -> SyntheticMixLoader:
    plain = partial(loader, settings)(Repeated(side, steps * batch_size), batch_size)
    return SyntheticMixLoader(plain, pool, RATIO, fields=FIELDS, device=settings.device)


def run_epochs(training: Training, batches: SyntheticMixLoader, epochs: int, *, moves: bool = False) -> float:
    training.settings.synchronize()
    began = time.perf_counter()
    for epoch in range(1, epochs + 1):
        if moves:
            batches.set_epoch(epoch)
        training.epoch(batches)
    return time.perf_counter() - began
