"""What does a render cost beside the model, how fast is the writer, and what does integrity cost?

Samples are 1×64×64 float32 (16 KiB). The model takes at least 1 ms per sample: once as a wait, as the CPU sees a model
on a GPU, and once as arithmetic on the same CPU, which has to share it with the writing thread.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import math
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch.utils.data import DataLoader

from benchmarks.harness import Timing, interleaved, is_wanted, publish, ratios
from torchgenaug import (
    FieldSpec,
    FunctionSynthesizer,
    ShardSource,
    SyntheticMixDataset,
    SyntheticSequence,
    render_shards,
    seeding,
    verify_shards,
)
from torchgenaug.shards import temporary
from torchgenaug.shards.format import Manifest
from torchgenaug.shards.read.reader import Verify
from torchgenaug.shards.structure import checksums
from torchgenaug.shards.write import writer as writer_module
from torchgenaug.shards.write.writer import ShardWriter

VERIFY: tuple[Verify, ...] = ("off", "sample", "read", "hash")
"""Nothing; when a process first reads a sample; each time; the sha256 of a file when a process first opens it."""
SHAPE = (1, 64, 64)
BATCH = 32
_NOISE = torch.rand(BATCH, *SHAPE, generator=torch.Generator().manual_seed(0))


def images(seeds: Any) -> torch.Tensor:
    """Images that differ from seed to seed, at the cost of one multiplication."""
    gains = torch.tensor([(seed >> 40) / (1 << 25) + 0.5 for seed in seeds])
    return _NOISE[: len(seeds)] * gains.view(-1, 1, 1, 1)


def waiting(seeds: Any, conditions: Any) -> dict[str, torch.Tensor]:
    time.sleep(0.001 * len(seeds))
    return {"image": images(seeds)}


def computing(seeds: Any, conditions: Any) -> dict[str, torch.Tensor]:
    """A constant amount of work, not of time: about 1 ms per sample on an idle core."""
    image = images(seeds)
    for _ in range(_calls(len(seeds))):
        torch.nn.functional.avg_pool2d(image, 5, 1, 2)
    return {"image": image}


@functools.cache
def _calls(count: int) -> int:
    """How many calls take 1 ms per sample, by the fastest of many: the first ones are slow."""
    image = images(range(count))
    fastest = float("inf")
    for _ in range(300):
        began = time.perf_counter()
        torch.nn.functional.avg_pool2d(image, 5, 1, 2)
        fastest = min(fastest, time.perf_counter() - began)
    return math.ceil(0.001 * count / fastest)


def sequence_of(function: Callable[..., Any]) -> SyntheticSequence:
    return SyntheticSequence(
        FunctionSynthesizer(function, {"image": FieldSpec(SHAPE, value_range=(0, 1))}, fingerprint="0" * 64)
    )


def render(function: Callable[..., Any], folder: Path, count: int, **options: Any) -> ShardSource:
    return render_shards(sequence_of(function), folder, count, batch_size=BATCH, progress=False, **options)


@contextlib.contextmanager
def no_safety() -> Iterator[None]:
    """Renders without fsync, sha256, checksums and reading back: what they cost is the difference."""

    class Careless:
        fsync = staticmethod(lambda descriptor: None)
        __getattr__ = staticmethod(lambda name: getattr(os, name))

    count = iter(range(1 << 30))
    kept = temporary.os, writer_module.file_digest, writer_module.checksums, ShardWriter._read_back
    temporary.os = Careless()  # type: ignore[assignment]
    writer_module.file_digest = lambda file: f"{next(count):064x}"
    writer_module.checksums = lambda rows, ids: [0] * len(ids)
    ShardWriter._read_back = lambda self: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        temporary.os, writer_module.file_digest, writer_module.checksums = kept[:3]
        ShardWriter._read_back = kept[3]  # type: ignore[method-assign]


@contextlib.contextmanager
def no_reading_back() -> Iterator[None]:
    """Renders that commit a shard without having read it."""
    kept = ShardWriter._read_back
    ShardWriter._read_back = lambda self: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        ShardWriter._read_back = kept  # type: ignore[method-assign]


def beside_the_model(scratch: Path, count: int, rounds: int) -> dict[str, Any]:
    """Time of a render over that of the same calls of the model; all of it, and without what it takes to begin."""
    table = {}
    folder = scratch / "shards"
    for name, function in {"model that waits": waiting, "model that computes": computing}.items():
        synthesizer = sequence_of(function).synthesizer

        def alone(synthesizer: Any = synthesizer) -> None:
            for start in range(0, count, BATCH):
                synthesizer.synthesize(list(range(start, start + BATCH)))

        def one_batch(synthesizer: Any = synthesizer) -> None:
            synthesizer.synthesize(list(range(BATCH)))

        def unsafe(function: Any = function) -> None:
            with no_safety():
                render(function, folder, count)

        contestants: dict[str, Callable[[], Any]] = {
            "synthesizer alone": alone,
            "render": lambda f=function: render(f, folder, count),
            "render, lz4": lambda f=function: render(f, folder, count, compression="lz4"),
            "render without fsync, sha256, checksums, reading back": unsafe,
        }
        timings = interleaved(contestants, rounds=rounds, before=lambda _: shutil.rmtree(folder, ignore_errors=True))
        entry: dict[str, Any] = ratios(timings, "synthesizer alone")
        for contestant, timing in timings.items():
            entry[contestant]["ms_per_sample"] = 1e3 * timing.median / count
        starts = interleaved(
            {"one batch": one_batch, "render of one batch": lambda f=function: render(f, folder, BATCH)},
            rounds=max(rounds, 3),
            before=lambda _: shutil.rmtree(folder, ignore_errors=True),
        )
        entry["fixed start, s"] = starts["render of one batch"].median - starts["one batch"].median
        shutil.rmtree(folder)
        render(function, folder, 2 * BATCH)
        assert verify_shards(folder).ok
        table[name] = entry
    return table


def safety(scratch: Path, count: int, rounds: int) -> dict[str, Any]:
    """What safety takes of a render, for each storage: against renders without it, in the same rounds.

    The model waits, as for a GPU. Reading back happens in the thread that writes: it takes time only where that thread
    is slower than the model, and after the last sample. Its processor time counts where there is no core to spare.
    """
    folder, table = scratch / "safety", {}
    for compression in (None, "lz4", "zstd", "gzip"):

        def whole(compression: str | None = compression) -> None:
            render(waiting, folder, count, compression=compression, shard_size=256)

        def unread(whole: Callable[[], None] = whole) -> None:
            with no_reading_back():
                whole()

        def unsafe(whole: Callable[[], None] = whole) -> None:
            with no_safety():
                whole()

        contestants = {"all": whole, "reading back": unread, "fsync, sha256, checksums, reading back": unsafe}
        busy: dict[str, list[float]] = {name: [] for name in contestants}

        def counted(name: str, call: Callable[[], None], busy: dict[str, list[float]] = busy) -> None:
            began = time.process_time()
            call()
            busy[name].append(time.process_time() - began)

        timings = interleaved(
            {name: functools.partial(counted, name, call) for name, call in contestants.items()},
            rounds=rounds,
            before=lambda _: shutil.rmtree(folder, ignore_errors=True),
        )
        row: dict[str, float] = {"ms_per_sample": 1e3 * timings["all"].median / count}
        for name in [*contestants][1:]:
            walls = zip(timings["all"].seconds, timings[name].seconds, strict=True)
            row[f"share of {name}"] = statistics.median((mine - less) / mine for mine, less in walls)
            processor = zip(busy["all"], busy[name], strict=True)
            row[f"us of a core per sample, {name}"] = statistics.median(
                1e6 * (mine - less) / count for mine, less in processor
            )
        table[compression or "not compressed"] = row
    return table


def resume_scan(scratch: Path, shards: int, rounds: int) -> dict[str, Any]:
    """Time to find that a folder is finished."""
    field = {"image": FieldSpec((1,))}
    tiny = FunctionSynthesizer(lambda seeds, _: {"image": torch.zeros(len(seeds), 1)}, field, fingerprint="1" * 64)

    def call() -> ShardSource:
        sequence = SyntheticSequence(tiny)
        return render_shards(sequence, scratch / "many", shards, batch_size=1, shard_size=1, progress=False)

    assert len(call()) == shards
    timing = interleaved({"scan": call}, rounds=rounds)["scan"]
    return {"shards": shards, "median_s": timing.median, "slowest_s": max(timing.seconds)}


def writers(scratch: Path, manifest: Manifest, rounds: int) -> dict[str, Any]:
    """One shard by our writer, and the same bytes by h5py and `np.save`; with and without making them durable."""
    size = len(manifest.shard_range(0))
    rows = np.random.default_rng(0).random((size, *SHAPE), np.float32)
    seeds = seeding.derive(manifest.seed, seeding.SAMPLE, np.arange(size))
    starts = range(0, size, BATCH)

    def ours() -> None:
        writer = ShardWriter(scratch, manifest, 0)
        for start in starts:
            writer.write(start, {"image": rows[start : start + BATCH]}, seeds[start : start + BATCH])
        (scratch / writer.commit()[0]).unlink()

    def plain_h5py(durable: bool) -> None:
        with h5py.File(scratch / "plain.h5", "w") as file:
            dataset = file.create_dataset("image", rows.shape, "float32")
            for start in starts:
                dataset[start : start + BATCH] = rows[start : start + BATCH]
        finish(scratch / "plain.h5", durable)

    def save(durable: bool) -> None:
        np.save(scratch / "plain.npy", rows)
        finish(scratch / "plain.npy", durable)

    def finish(path: Path, durable: bool) -> None:
        if durable:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        path.unlink()

    timings = interleaved(
        {
            "plain h5py": lambda: plain_h5py(False),
            "plain h5py, fsync": lambda: plain_h5py(True),
            "np.save": lambda: save(False),
            "np.save, fsync": lambda: save(True),
            "ShardWriter (checksums, fsync, reading back, sha256)": ours,
        },
        rounds=rounds,
    )
    table = ratios(timings, "plain h5py, fsync")
    for name, timing in timings.items():
        table[name]["MB_per_s"] = rows.nbytes / 1e6 / timing.median
    return table


def _rank(folder: Path, count: int, rank: int, world_size: int, barrier: Any, seconds: Any) -> None:
    torch.set_num_threads(1)
    computing(range(BATCH), None)
    barrier.wait()
    began = time.perf_counter()
    sequence = sequence_of(computing)
    render_shards(sequence, folder, count, batch_size=BATCH, shard_size=256, progress=False, ranks=(rank, world_size))
    seconds.put(time.perf_counter() - began)


def processes(scratch: Path, count: int, rounds: int) -> dict[str, Any]:
    """One and two processes; the work per sample is constant, the start of the interpreters is not counted."""
    context = multiprocessing.get_context("fork")
    computing(range(BATCH), None)  # settles the amount of work, which forked processes inherit
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for world_size, times in found.items():
            shutil.rmtree(scratch / "ranks", ignore_errors=True)
            barrier, seconds = context.Barrier(world_size), context.SimpleQueue()
            children = [
                context.Process(target=_rank, args=(scratch / "ranks", count, rank, world_size, barrier, seconds))
                for rank in range(world_size)
            ]
            for child in children:
                child.start()
            for child in children:
                child.join()
            times.append(max(seconds.get() for _ in children))
    assert verify_shards(scratch / "ranks").ok
    timings = {f"{number} process{'es' * (number > 1)}": Timing(times) for number, times in found.items()}
    return ratios(timings, "1 process")


def verifying(source: ShardSource, rounds: int) -> dict[str, Any]:
    """Bytes per second of `verify_shards`, of a file that is in memory; by the clock and by the time of one core."""
    files = source.manifest.num_shards
    size = verify_shards(source.path).num_bytes
    busy = []

    def call() -> None:
        began = time.process_time()
        assert verify_shards(source.path).ok
        busy.append(time.process_time() - began)

    timing = interleaved({"verify": call}, rounds=rounds)["verify"]
    return {
        "files": files,
        "GB": size / 1e9,
        "GB_per_s": size / 1e9 / timing.median,
        "GB_per_s_of_one_core": size / 1e9 / statistics.median(busy),
    }


STAT, HASH = "off, and a stat of each shard read", "off, and xxh3 of each sample read"


class Stated(ShardSource):
    """Not verified; asks in each read when the files of its shards were changed, and does nothing about it."""

    files: Sequence[Path] = ()

    def read(self, positions: npt.NDArray[np.int64]) -> dict[str, torch.Tensor]:
        self.files = self.files or sorted(self.path.glob("*.h5"))
        for index in set((positions // self.manifest.shard_size).tolist()):
            os.stat(self.files[index])
        return super().read(positions)


class Hashed(ShardSource):
    """Not verified; computes a checksum of each sample that it read, and compares it with nothing."""

    def read(self, positions: npt.NDArray[np.int64]) -> dict[str, torch.Tensor]:
        batch = super().read(positions)
        for row in batch["image"].numpy():
            xxhash.xxh3_64_intdigest(row)
        return batch


def epoch(source: ShardSource, rounds: int, *, trains: bool) -> dict[str, Any]:
    """An epoch that reads, mixes and collates, and does nothing else or also trains a network of two convolutions."""
    real = [{"image": image} for image in images(range(BATCH)).clone()] * (len(source) // BATCH)
    mixed: dict[str, Any] = {
        verify: SyntheticMixDataset(real, ShardSource(source.path, verify=verify), ratio=0.5)
        for verify in ("off", "sample", "read")
    }
    if not trains:
        for name, kind in ((STAT, Stated), (HASH, Hashed)):
            mixed[name] = SyntheticMixDataset(real, kind(source.path, verify="off"), ratio=0.5)
    channels = len(real[0]["image"])
    layers = (torch.nn.Conv2d(channels, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3, stride=2))
    network = torch.nn.Sequential(*layers)
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)

    def run(data: SyntheticMixDataset) -> None:
        for batch in DataLoader(data, batch_size=64, shuffle=True):
            if trains:
                optimizer.zero_grad()
                network(batch["image"]).square().mean().backward()
                optimizer.step()

    turn = itertools.count()
    timings = interleaved(
        {name: lambda one=one: run(one) for name, one in mixed.items()},
        rounds=rounds,
        before=lambda name: mixed[name].set_epoch(next(turn)),
    )
    return ratios(timings, "off")


def integrity(scratch: Path, source: ShardSource, rounds: int) -> dict[str, Any]:
    """Random batches of 64 with and without checksums; and what checksums and sha256 take of a render."""
    order = np.random.default_rng(1).permutation(len(source))
    batches = [order[start : start + 64] for start in range(0, len(order), 64)]
    sources = {verify: ShardSource(source.path, verify=verify) for verify in VERIFY}
    timings = interleaved(
        {name: lambda s=one: [s.read(batch) for batch in batches] for name, one in sources.items()}, rounds=rounds
    )
    table: dict[str, Any] = {"reading": ratios(timings, "off")}
    for name, timing in timings.items():
        table["reading"][name]["us_per_sample"] = 1e6 * timing.median / len(order)
    table["epoch that only reads and mixes"] = epoch(source, 3 * rounds, trains=False)
    table["epoch that trains"] = epoch(source, rounds, trains=True)
    rows = source.read(np.arange(BATCH))["image"].numpy()
    parts = interleaved(
        {
            "checksums": lambda: [checksums(rows, list(range(BATCH))) for _ in range(20)],
            "sha256": lambda: [hashlib.sha256(rows.data).digest() for _ in range(20)],
        },
        rounds=rounds,
    )
    for name, timing in parts.items():
        per_sample = timing.median / 20 / BATCH
        table[f"{name}, share of 1 ms per sample"] = per_sample / 1e-3
    return table


def measure(*, quick: bool = False, only: str | None = None) -> dict[str, Any]:
    count, rounds = (64, 2) if quick else (4096, 5)
    with tempfile.TemporaryDirectory(prefix="torchgenaug-rendering-", dir=os.environ.get("TMPDIR")) as name:
        scratch = Path(name)
        source = render(waiting, scratch / "source", count)
        if not quick:
            time.sleep(2.5)  # until its files are no longer new: of a new file all is compared in each read
        parts: dict[str, Callable[[], Any]] = {
            "render over synthesizer alone": lambda: beside_the_model(scratch, count, rounds),
            "safety in a render": lambda: safety(scratch, count // 2, 2 if quick else 5),
            "resume scan": lambda: resume_scan(scratch, 20 if quick else 1000, rounds),
            "verify": lambda: verifying(source, 2 if quick else 21),
            "writer": lambda: writers(scratch, source.manifest, 2 if quick else 11),
            "integrity": lambda: integrity(scratch, source, 2 if quick else 21),
            "processes": lambda: processes(scratch, count // 4, rounds),
        }
        results = {name: part() for name, part in parts.items() if is_wanted(name, only)}
    return publish("rendering", results, quick=quick, only=only)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
