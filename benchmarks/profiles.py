"""Where the time goes, function by function: kept in ``results/profiles`` for the targets that were missed."""

from __future__ import annotations

import cProfile
import io
import pstats
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import RESULTS

_LINES = 25


def reading(compression: str | None) -> Callable[[], Any]:
    """Whole batches of 1×64×64 from shards."""
    from benchmarks.peers import ours
    from benchmarks.peers.contract import Job
    from benchmarks.reading import CELLS, one_pass, smooth

    cell = CELLS[0]
    folder = tempfile.mkdtemp(prefix="torchgenaug-profile-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    job = Job(smooth(cell), Path(folder), cell.batch)
    ours.write(job, compression)
    loader = ours.read(job, "sample")
    one_pass(loader)
    return lambda: [one_pass(loader) for _ in range(5)]


def mixing() -> Callable[[], Any]:
    from benchmarks.mixing import FIELDS, InMemory, epoch
    from torchgenaug import SyntheticMixDataset

    mixed = SyntheticMixDataset(InMemory(20_000, 0), InMemory(20_000, 1), 0.25, fields=FIELDS)
    epoch(mixed, 0)
    return lambda: epoch(mixed, 0)


def loader() -> Callable[[], Any]:
    from benchmarks.loader import BATCH, one_pass
    from benchmarks.mixing import FIELDS, InMemory, InMemorySource
    from torchgenaug import SyntheticMixLoader

    batches = [[torch.rand(BATCH, 1, 64, 64), torch.zeros(BATCH, dtype=torch.int64)]] * 300
    mixed = SyntheticMixLoader(batches, InMemorySource(InMemory(2000, 1)), 0.25, fields=FIELDS)
    one_pass(mixed)
    return lambda: one_pass(mixed)


def pool() -> Callable[[], Any]:
    """What a training loop gets from a full pool, without its training."""
    from torch.utils.data import DataLoader

    from benchmarks.loader import BATCH, one_pass, sequence
    from benchmarks.mixing import FIELDS, InMemory
    from torchgenaug import SyntheticMixLoader, SyntheticPool

    full = SyntheticPool(sequence(), 1000, refresh=0, batch_size=BATCH)
    full.set_epoch(0)
    mixed = SyntheticMixLoader(DataLoader(InMemory(60 * BATCH, 0), BATCH, shuffle=True), full, 0.25, fields=FIELDS)
    one_pass(mixed)
    return lambda: [one_pass(mixed) for _ in range(5)]


def scale() -> Callable[[], Any]:
    """The start of a source with many shards."""
    from benchmarks.scale import render
    from torchgenaug import ShardSource

    folder = tempfile.mkdtemp(prefix="torchgenaug-profile-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    render(Path(folder), 100_000, 1000)

    def start() -> None:
        source = ShardSource(folder)
        source.read(np.arange(0, len(source), 100))

    start()
    return start


def transforms() -> Callable[[], Any]:
    """The cheapest transform, a flip, on the smallest samples."""
    from benchmarks.transforms import Separate, images, seeded, transform

    samples = images((1, 64, 64), 32)
    apply = seeded(Separate(samples), transform("flip", (1, 64, 64)), ("image",))
    return lambda: [apply() for _ in range(20)]


def fit_step() -> Callable[[], Any]:
    """The family whose steps were the slowest beside a loop by hand."""
    from benchmarks.fit_step import fitted, pairs

    step = fitted("pix2pix", pairs(), 16)
    step()
    return lambda: [step() for _ in range(20)]


def pool_process() -> Callable[[], Any]:
    """What the training process does for a pool in a process, without the training; and the wait for its batches."""
    from benchmarks.pool import diffusion
    from torchgenaug.pool.making.process import ProcessSupply

    sequence, _ = diffusion(16, 4)
    supply = ProcessSupply(sequence, 300)
    supply.prepare(32, None)
    supply.batch(np.arange(32))

    def ask() -> None:
        for start in range(0, 640, 32):
            supply.batch(np.arange(start, start + 32))
        supply.close()

    return ask


def rendering() -> Callable[[], Any]:
    """A render whose model computes on the same CPU: its thread, beside which another one writes."""
    from benchmarks.rendering import computing, render

    folder = tempfile.mkdtemp(prefix="torchgenaug-profile-")
    render(computing, Path(folder) / "first", 64)
    return lambda: render(computing, Path(folder) / "second", 2048)


def epoch() -> Callable[[], Any]:
    """An epoch that only reads and mixes, half of it from shards whose samples are compared in each read."""
    from torch.utils.data import DataLoader

    from benchmarks.rendering import BATCH, images, render
    from torchgenaug import ShardSource, SyntheticMixDataset

    folder = tempfile.mkdtemp(prefix="torchgenaug-profile-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    source = render(lambda seeds, _: {"image": images(seeds)}, Path(folder), 4096)
    real = [{"image": image} for image in images(range(BATCH)).clone()] * (len(source) // BATCH)
    mixed = SyntheticMixDataset(real, ShardSource(folder, verify="read"), ratio=0.5)

    def run() -> None:
        for number in range(10):
            mixed.set_epoch(number)
            for _ in DataLoader(mixed, batch_size=64, shuffle=True):
                pass

    return run


def generator() -> Callable[[], Any]:
    import diffusers
    from diffusers.models.unets.unet_2d import UNet2DOutput

    from benchmarks.generator import BATCH, STEPS
    from torchgenaug import DiffusersSynthesizer

    class Identity(diffusers.UNet2DModel):  # type: ignore[misc]
        def forward(self, sample: Any, timestep: Any, class_labels: Any = None, return_dict: bool = True) -> Any:
            return UNet2DOutput(sample=sample) if return_dict else (sample,)

    net = Identity(
        sample_size=64, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4,
        layers_per_block=1, down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    synthesizer = DiffusersSynthesizer(net, diffusers.DDIMScheduler(clip_sample=False), steps=STEPS, value_range=(0, 1))
    synthesizer.synthesize(list(range(BATCH)))
    return lambda: [synthesizer.synthesize(list(range(BATCH))) for _ in range(50)]


MAKERS: dict[str, Callable[[], Callable[[], Any]]] = {
    "epoch": epoch,
    "fit-step": fit_step,
    "generator": generator,
    "loader": loader,
    "mixing": mixing,
    "pool": pool,
    "pool-process": pool_process,
    "reading": lambda: reading(None),
    "reading-lz4": lambda: reading("lz4"),
    "reading-zstd": lambda: reading("zstd"),
    "rendering": rendering,
    "scale": scale,
    "transforms": transforms,
}


@contextmanager
def _scratch() -> Iterator[None]:
    """Removes what the makers leave in memory-backed folders."""
    import shutil

    yield
    for where in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        for folder in where.glob("torchgenaug-profile-*"):
            shutil.rmtree(folder, ignore_errors=True)


def write(names: list[str], folder: Path = RESULTS / "profiles") -> None:
    """Profiles each of `names` and keeps the functions that took most time of their own."""
    for name in names:
        with _scratch():
            run = MAKERS[name]()
            profile = cProfile.Profile()
            profile.runcall(run)
        text = io.StringIO()
        pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(_LINES)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.txt").write_text(
            "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines()) + "\n"
        )
        print(f"profile of {name}: {folder / name}.txt")
