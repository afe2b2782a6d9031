"""``torchgenaug demo``: the main job, end to end, on real brain MR, in about two minutes on two CPU cores.

Real slices and a small diffusion model go in; the model's samples are rendered into shards and, the same samples, kept
in a pool that is renewed while training runs; a segmentation network is trained on the mix from each of the two, and
scored on real slices that neither it nor the diffusion model has seen.
"""

from __future__ import annotations

import json
import statistics
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader

from torchgenaug import ClassLabels, SyntheticMixDataset, SyntheticPool, SyntheticSequence, load_synthesizer
from torchgenaug.contracts import SyntheticSource
from torchgenaug.datasets.brain import NUM_LEVELS, BrainSlices
from torchgenaug.demo import WEIGHTS
from torchgenaug.demo.segmenter import Segmenter, mean_dice, train_step
from torchgenaug.demo.threads import torch_threads
from torchgenaug.pictures import contact_sheet
from torchgenaug.shards import render_shards

_NUM_SHARD_SAMPLES, _POOL_CAPACITY, _BATCH_SIZE, _RENDER_BATCH = 64, 32, 10, 8
_NUM_WORKERS = 2


@dataclass(frozen=True, slots=True)
class EpochRow:
    """What the table of the demo says about one epoch."""

    source: str
    epoch: int
    real: int
    synthetic: int
    loss: float
    plain_samples_per_s: float
    mixed_samples_per_s: float
    pool_wait_s: float | None
    """Seconds that the training process waited for the pool since the row before (the first one: since its start)."""


@torch_threads(1)  # two workers and the pool share the machine with the training loop
def run_demo(out: Path, *, epochs: int = 6, ratio: float = 0.4, console: Console | None = None) -> list[EpochRow]:
    """Runs the demo and writes ``shards/``, ``mixed_batch.png`` and ``summary.json`` into `out`.

    Args:
        out: folder for the results; made if it is not there. Shards that are there are used again.
        epochs: epochs of training per source.
        ratio: synthetic fraction of an epoch.
        console: where to print.

    Returns:
        The rows of the printed table. Counts are counted from the batches that the training loop got.
    """
    began = time.perf_counter()
    console = console or Console()
    out.mkdir(parents=True, exist_ok=True)

    real, held_out = BrainSlices("train"), BrainSlices("held_out")
    console.print(
        f"Real data: {len(real)} slices of the ICBM152 T1 template with tissue masks, {len(held_out)} held out."
    )
    synthesizer = load_synthesizer(WEIGHTS)
    sequence = SyntheticSequence(synthesizer, ClassLabels(NUM_LEVELS))
    console.print(
        f"Synthesizer: diffusers UNet2DModel, {synthesizer.steps} steps; sequence {sequence.fingerprint[:12]}."
    )

    shards = render_shards(
        sequence, out / "shards", _NUM_SHARD_SAMPLES, batch_size=_RENDER_BATCH, shard_size=_NUM_SHARD_SAMPLES // 2
    )
    console.print(f"Offline: {len(shards)} samples in {out / 'shards'}.", markup=False, soft_wrap=True)
    rows: list[EpochRow] = []
    scores = {"real only": _train(real, shards, 0.0, epochs, "real only", rows, held_out, console)}
    scores["shards"] = _train(real, shards, ratio, epochs, "shards", rows, held_out, console)
    with closing(SyntheticPool(sequence, _POOL_CAPACITY, batch_size=_RENDER_BATCH)) as pool:
        first = np.arange(_RENDER_BATCH)
        same = all(torch.equal(pool.read(first)[name], value) for name, value in shards.read(first).items())
        console.print(f"On the fly: a pool of {len(pool)}. Its samples equal those in the shards, bit by bit: {same}.")
        scores["pool"] = _train(real, pool, ratio, epochs, "pool", rows, held_out, console)
        picture = _draw(real, {"shards": shards, "pool": pool}, ratio, out / "mixed_batch.png")
        console.print(repr(pool))

    console.print(_table(rows))
    for name, score in scores.items():
        console.print(f"Mean Dice on {len(held_out)} real held-out slices, trained on {name}: {score:.3f}")
    console.print(
        "One template is no evidence that synthetic data help: the scores show that the parts work together, no more."
    )
    seconds = time.perf_counter() - began
    summary = {"rows": [asdict(row) for row in rows], "dice": scores, "pool_equals_shards": same, "seconds": seconds}
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print(f"Look at {picture}. Done in {seconds:.0f} s.", markup=False, soft_wrap=True)
    return rows


def _train(
    real: BrainSlices,
    source: SyntheticSource,
    ratio: float,
    epochs: int,
    name: str,
    rows: list[EpochRow],
    held_out: BrainSlices,
    console: Console,
) -> float:
    """Trains a new segmenter on the mix, appends a row per epoch, and returns its Dice on held-out real slices."""
    mixes = {"plain": _mix(real, source, 0.0), "mixed": _mix(real, source, ratio)}
    loaders = {
        kind: DataLoader(
            dataset,
            _BATCH_SIZE,
            shuffle=True,
            num_workers=_NUM_WORKERS,
            persistent_workers=True,
            generator=torch.Generator().manual_seed(0),
        )
        for kind, dataset in mixes.items()
    }
    for loader in loaders.values():
        _drain(loader)  # starts the workers
    torch.manual_seed(0)
    model = Segmenter()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    waited_before = 0.0
    for epoch in track(range(epochs), f"Training on {name}", console=console):
        for mix in mixes.values():
            mix.set_epoch(epoch)
        losses, synthetic, total = [], 0, 0
        for batch in loaders["mixed"]:
            losses.append(train_step(model, optimizer, batch))
            synthetic += int(batch["provenance"]["is_synthetic"].sum())
            total += len(batch["image"])
        waited_until = source.stats.wait_s if isinstance(source, SyntheticPool) else None
        speeds = {kind: _drain(loader) for kind, loader in loaders.items()}
        rows.append(
            EpochRow(
                name,
                epoch,
                total - synthetic,
                synthetic,
                statistics.mean(losses),
                speeds["plain"],
                speeds["mixed"],
                None if waited_until is None else waited_until - waited_before,
            )
        )
        waited_before = waited_until or 0.0
    return mean_dice(model, held_out)


def _mix(real: BrainSlices, source: SyntheticSource, ratio: float) -> SyntheticMixDataset:
    import torchio as tio

    augment = tio.Compose(
        [
            tio.RandomAffine(
                scales=(0.95, 1.05, 0.95, 1.05, 1, 1), degrees=(0, 0, 0, 0, -10, 10), translation=(-2, 2, -2, 2, 0, 0)
            ),
            tio.RandomGamma(log_gamma=0.15),
            tio.RandomNoise(std=(0, 0.03)),
        ]
    )
    return SyntheticMixDataset(real, source, ratio, match="label", transform=augment, provenance=True, seed=1)


def _drain(loader: DataLoader[Any]) -> float:
    """Samples per second of one pass without any training."""
    began, count = time.perf_counter(), 0
    for batch in loader:
        count += len(batch["image"])
    return count / (time.perf_counter() - began)


def _draw(real: BrainSlices, sources: dict[str, SyntheticSource], ratio: float, path: Path) -> Path:
    """A contact sheet of one batch of each mix, each image marked as real or synthetic."""
    samples, marks = [], []
    for seed, source in enumerate(sources.values()):
        for sample in _shuffled_batch(_mix(real, source, ratio), seed):
            marks.append("synthetic" if sample.pop("provenance")["is_synthetic"] else "real")
            samples.append(sample)
    contact_sheet(samples, next(iter(sources.values())).fields, path, marks=marks, columns=5, rotate=1)
    return path


def _shuffled_batch(mixed: SyntheticMixDataset, seed: int) -> list[dict[str, Any]]:
    order = torch.randperm(len(mixed), generator=torch.Generator().manual_seed(seed))
    return mixed.__getitems__(order[:_BATCH_SIZE].tolist())


def _table(rows: list[EpochRow]) -> Table:
    table = Table(title="What the training loop got", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    headings = ("source", "epoch", "real", "synthetic", "loss", "plain\nsamples/s", "mixed\nsamples/s", "pool\nwait, s")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "source" else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.source,
            str(row.epoch),
            str(row.real),
            str(row.synthetic),
            f"{row.loss:.3f}",
            f"{row.plain_samples_per_s:.0f}",
            f"{row.mixed_samples_per_s:.0f}",
            "" if row.pool_wait_s is None else f"{row.pool_wait_s:.2f}",
        )
    return table
