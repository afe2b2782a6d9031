"""How fast are samples read from shards, against every other way to store them, on the same samples in the same rounds?

Each contestant writes the same smooth images in its own format and reads them back in a random order, in batches:
throughput is given over that of a `DataLoader` over an in-memory `TensorDataset`, item by item (1.0), round by round.
Warm: from memory-backed files (``/dev/shm``), opened once. Cold: from a disk, with the files' pages dropped before
each pass, which then opens them anew; without worker processes; over plain h5py. After timing, every sample of a pass
is compared. With two workers, what reads in the training process is there, too: it needs no transport.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor

from benchmarks.harness import interleaved, publish, throughput_ratios
from benchmarks.peers import BASELINE, PEERS, Peer
from benchmarks.peers.contract import Job

_PASS_S = 0.05
_MOST_PASSES = 20
_SLOW_S = 0.3
_TOLD_S = 5.0
IN_PROCESS = "ShardSource, in the training process"
COLD_BASELINE = "h5py"
WORKERS = 2


@dataclass(frozen=True)
class Cell:
    """One size and dtype: how many samples, and in how many rounds."""

    shape: tuple[int, ...]
    dtype: str
    count: int
    batch: int
    rounds: int
    workers: bool = False
    cold: bool = False

    @property
    def name(self) -> str:
        size = "×".join(map(str, self.shape))
        return f"{size} {self.dtype}" + (", cold" if self.cold else "")


# All sizes in float32, the smallest and the largest sample in the others. 67 MB of float32 each: twice the last-level
# cache of the machine that the published figures come from.
CELLS = (
    Cell((1, 64, 64), "float32", 4096, 64, 5, workers=True),
    Cell((1, 256, 256), "float32", 256, 16, 5, workers=True),
    Cell((3, 512, 512), "float32", 24, 4, 5, workers=True),
    Cell((1, 96, 96, 96), "float32", 20, 4, 5, workers=True),
    Cell((1, 64, 64), "float16", 4096, 64, 3),
    Cell((1, 96, 96, 96), "float16", 20, 4, 3),
    Cell((1, 64, 64), "uint8", 4096, 64, 3),
    Cell((1, 96, 96, 96), "uint8", 20, 4, 3),
    Cell((1, 64, 64), "float32", 4096, 64, 3, cold=True),
    Cell((1, 96, 96, 96), "float32", 20, 4, 3, cold=True),
)
QUICK = (
    Cell((1, 16, 16), "float32", 16, 8, 1, workers=True),
    Cell((1, 16, 16), "float32", 16, 8, 1, cold=True),
)


def smooth(cell: Cell) -> Tensor:
    """Coarse noise, interpolated, in steps of 12 bits, as scanners give them: such images compress."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(cell.count, cell.shape[0], *(max(2, size // 8) for size in cell.shape[1:]), generator=generator)
    mode = "bilinear" if len(cell.shape) == 3 else "trilinear"
    images = torch.nn.functional.interpolate(coarse, cell.shape[1:], mode=mode, align_corners=True)
    images = (images * 4096).round() / 4096
    return (images * 255 if cell.dtype == "uint8" else images).to(getattr(torch, cell.dtype)).contiguous()


def digests(images: Tensor) -> list[int]:
    return [xxhash.xxh3_64_intdigest(image.contiguous().numpy().tobytes()) for image in images]


def batches(loader: Iterable[Any]) -> Iterable[Tensor]:
    for batch in loader:
        yield batch[0] if isinstance(batch, (list, tuple)) else batch


def one_pass(loader: Iterable[Any]) -> int:
    return sum(len(batch) for batch in batches(loader))


def check(peer: Peer, job: Job, loader: Iterable[Any]) -> None:
    """AssertionError unless a pass gives the very samples."""
    found = [digest for batch in batches(loader) for digest in digests(batch)]
    expected = digests(job.samples)
    right = sorted(found) == sorted(expected) if peer.once else set(found) <= set(expected)
    if not right or len(found) != len(expected):
        raise AssertionError(f"{peer.name}: {len(found)} samples, of which {len(set(found) & set(expected))} are right")


def drop_cache(folder: Path) -> float:
    """Lets the kernel forget the files of a folder; the fraction of them (by the page in the middle) that it forgot."""
    gone = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.preadv(descriptor, [bytearray(1)], os.fstat(descriptor).st_size // 2, os.RWF_NOWAIT)
            gone.append(0)
        except BlockingIOError:
            gone.append(1)
        except OSError:
            continue  # a file system that cannot say
        finally:
            os.close(descriptor)
    return sum(gone) / len(gone) if gone else 0.0


def write_all(jobs: dict[Peer, Job]) -> dict[str, str]:
    """Every peer's files; why some have none."""
    absent = {}
    for peer, job in jobs.items():
        job.folder.mkdir()
        try:
            peer.write(job)
        except Exception as error:
            absent[peer.name] = _said(error)
    return absent


def settle(cell: Cell) -> None:
    """Waits until the files are no longer new: `ShardSource` compares what it reads of a new file in each read."""
    if cell not in QUICK:
        time.sleep(2.5)


def warm(jobs: dict[Peer, Job], cell: Cell, workers: int, absent: dict[str, str]) -> dict[str, Any]:
    """Passes over loaders that stay open."""
    contestants: dict[str, Callable[[], Any]] = {}
    slow: dict[str, Callable[[], Any]] = {}
    counts: dict[str, int] = {}
    loaders: dict[str, tuple[Peer, Job, Any]] = {}
    for peer, job in jobs.items():
        entries = [(peer.name, workers)]
        if workers and peer.name == "ShardSource":
            entries.append((IN_PROCESS, 0))
        for name, number in entries:
            mine = replace(job, workers=number)
            try:
                loader = peer.open(mine)
                took = _seconds(loader)  # starts its workers, fills the caches
                took = min(took, _seconds(loader)) if took < 5 * _SLOW_S else took
                if took > _TOLD_S:
                    print(f"  {name}: {took:.0f} s for a pass", flush=True)
            except Exception as error:
                absent[f"{name}, {workers} workers"] = _said(error)
                continue
            passes = max(1, min(_MOST_PASSES, round(_PASS_S / took)))
            loaders[name], counts[name] = (peer, mine, loader), passes * cell.count
            group = contestants if took < _SLOW_S or name == BASELINE else slow
            group[name] = lambda loader=loader, n=passes: [one_pass(loader) for _ in range(n)]
    timings = interleaved(contestants, rounds=cell.rounds, warm_up=0)
    if slow:  # in two rounds of their own, with the baseline: they are far off, and would take minutes
        others = interleaved({BASELINE: contestants[BASELINE], **slow}, rounds=2, warm_up=0)
        table = throughput_ratios(others, counts, BASELINE) | throughput_ratios(timings, counts, BASELINE)
    else:
        table = throughput_ratios(timings, counts, BASELINE)
    for name, entry in loaders.items():
        try:
            check(*entry)
        except AssertionError as error:
            absent[f"{name}, {workers} workers"] = _said(error)
            del table[name]
    return table


def cold(jobs: dict[Peer, Job], cell: Cell, absent: dict[str, str]) -> dict[str, Any]:
    """Passes over files that the kernel has just forgotten, opening included."""
    forgotten: dict[str, list[float]] = {}

    def first_pass(peer: Peer, job: Job) -> None:
        one_pass(peer.open(job))

    usable = {}
    for peer, job in jobs.items():
        try:
            check(peer, job, peer.open(job))
        except Exception as error:
            absent[f"{peer.name}, cold"] = _said(error)
        else:
            usable[peer] = job

    def forget(name: str) -> None:
        gc.collect()  # a file that is still mapped cannot be forgotten
        forgotten.setdefault(name, []).append(drop_cache(by_name[name].folder))

    by_name = {peer.name: job for peer, job in usable.items()}
    contestants = {peer.name: (lambda peer=peer, job=job: first_pass(peer, job)) for peer, job in usable.items()}
    timings = interleaved(contestants, rounds=cell.rounds, warm_up=0, before=forget)
    table = throughput_ratios(timings, dict.fromkeys(timings, cell.count), COLD_BASELINE)
    for name, entry in table.items():
        entry["pages_forgotten"] = sum(forgotten[name]) / len(forgotten[name])
    return table


def jobs_of(cell: Cell, scratch: Path) -> dict[Peer, Job]:
    samples = smooth(cell)
    return {peer: Job(samples, scratch / str(k), cell.batch) for k, peer in enumerate(PEERS)}


def write_and_read(cell: Cell, scratch: Path) -> dict[str, Any]:
    """Without worker processes; leaves the files."""
    jobs = jobs_of(cell, scratch)
    absent = write_all(jobs)
    jobs = {peer: job for peer, job in jobs.items() if peer.name not in absent}
    size = {
        peer.name: sum(path.stat().st_size for path in job.folder.rglob("*") if path.is_file()) / cell.count
        for peer, job in jobs.items()
    }
    if cell.cold:
        table = cold({peer: job for peer, job in jobs.items() if size[peer.name]}, cell, absent)
    else:
        settle(cell)
        table = warm(jobs, cell, 0, absent)
    return {"cold" if cell.cold else "0 workers": table, "bytes_per_sample": size, "absent": absent}


def only_write(cell: Cell, scratch: Path) -> dict[str, str]:
    return write_all(jobs_of(cell, scratch))


def read_by_workers(cell: Cell, scratch: Path, absent: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    absent = dict(absent)
    jobs = {peer: job for peer, job in jobs_of(cell, scratch).items() if peer.name not in absent}
    return warm(jobs, cell, WORKERS, absent), absent


def measure(*, quick: bool = False, only: str | None = None) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    # The libraries start threads. What forks workers must not have any, so this process imports none of them, and one
    # other process reads whatever needs no workers.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, context) as reader:
        for cell in QUICK if quick else CELLS:
            alone, by_workers = (only in (None, cell.name, f"{cell.name}, {n} workers") for n in (0, WORKERS))
            by_workers = by_workers and cell.workers
            if not alone and not by_workers:
                continue
            where = None if cell.cold else memory
            print(f"{time.strftime('%T')} {cell.name} …", flush=True)
            with tempfile.TemporaryDirectory(prefix="torchgenaug-reading-", dir=where) as name:
                scratch = Path(name)
                result: dict[str, Any] = {"absent": {}}
                if alone:
                    result = reader.submit(write_and_read, cell, scratch).result()
                elif by_workers:
                    result["absent"] = reader.submit(only_write, cell, scratch).result()
                if by_workers:
                    with ProcessPoolExecutor(1, context) as clean:
                        table, absent = clean.submit(read_by_workers, cell, scratch, result["absent"]).result()
                    result[f"{WORKERS} workers"], result["absent"] = table, absent
            cells[cell.name] = result
    versions = {package: _version(package) for peer in PEERS for package in peer.packages}
    kinds = {peer.name: peer.kind for peer in PEERS}
    return publish("reading", {"cells": cells, "kinds": kinds, "versions of peers": versions}, quick=quick, only=only)


def _seconds(loader: Iterable[Any]) -> float:
    began = time.perf_counter()
    one_pass(loader)
    return time.perf_counter() - began


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
