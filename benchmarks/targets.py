"""What was promised, as numbers, and where the results say whether it was kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]
"""Question → its results."""

SMALL, LARGE, VOLUME = "1×64×64 float32", "1×256×256 float32", "1×96×96×96 float32"
SIZES = (SMALL, LARGE, "3×512×512 float32", VOLUME)


@dataclass(frozen=True)
class Target:
    """One promise.

    Attributes:
        what: what is measured.
        measure: the number, from the results; KeyError if it was not measured.
        limit: what it must reach.
        at_most: whether smaller is better.
        unit: after the number.
        profile: the name of the profile that shows where the time goes.
        bound: what no code of ours can beat, and its number in the same results: memory read once, the decoder alone,
            the same loop written by hand.
    """

    what: str
    measure: Callable[[Results], float]
    limit: float
    at_most: bool = False
    unit: str = ""
    profile: str = ""
    bound: tuple[str, Callable[[Results], float]] | None = None

    def reached(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    @property
    def promise(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}{self.unit}"


def _read(name: str, cell: str = SMALL, table: str = "0 workers") -> Callable[[Results], float]:
    return lambda results: float(results["reading"]["cells"][cell][table][name]["throughput"])


def _over(mine: str, others: tuple[str, ...], cells: tuple[str, ...] = (SMALL,)) -> Callable[[Results], float]:
    """The smallest lead over any of the others that was measured."""

    def lead(results: Results) -> float:
        leads = []
        for cell in cells:
            table = results["reading"]["cells"][cell]["0 workers"]
            leads += [table[mine]["throughput"] / table[name]["throughput"] for name in others if name in table]
        if not leads:
            raise KeyError(others)
        return float(min(leads))

    return lead


def _over_compressed(results: Results) -> float:
    kinds = results["reading"]["kinds"]
    peers = tuple(name for name, kind in kinds.items() if kind == "compressed")
    return _over("ShardSource, lz4", peers, SIZES)(results)


def _path(*keys: str) -> Callable[[Results], float]:
    def value(results: Results) -> float:
        entry: Any = results
        for key in keys:
            entry = entry[key]
        return float(entry)

    return value


def _lead_over_pipeline(results: Results) -> float:
    table = results["generator"]["outside_the_network"]
    return float(
        table["DDIMPipeline, to numpy"]["us_per_sample"] / table["DiffusersSynthesizer, DDIM"]["us_per_sample"]
    )


def _lead_beside_noise(results: Results) -> float:
    """The same lead, of what remains of both when the time of their noise is taken off."""
    table = {name: row["us_per_sample"] for name, row in results["generator"]["outside_the_network"].items()}
    theirs = table["DDIMPipeline, to numpy"] - table["the pipeline's noise alone (torch, a generator per sample)"]
    return float(theirs / (table["DiffusersSynthesizer, DDIM"] - table["its noise alone (seeding.normal)"]))


def _noise_over_pipeline(results: Results) -> float:
    table = results["generator"]["outside_the_network"]
    noise = table["its noise alone (seeding.normal)"]["us_per_sample"]
    return float(table["DDIMPipeline, to numpy"]["us_per_sample"] / noise)


def _memory_over_workers(results: Results) -> float:
    """A batch copied from memory in this process, against the `DataLoader` with two workers."""
    tables = results["reading"]["cells"][SMALL]
    memory = tables["0 workers"]["tensor in memory, whole batch"]["us_per_sample"]
    return float(tables["2 workers"]["TensorDataset"]["us_per_sample"] / memory)


def _worst_step(name: str) -> Callable[[Results], float]:
    return lambda results: float(min(family[name]["throughput"] for family in results["fit_step"].values()))


def _pool_sample(results: Results) -> float:
    """Bytes that a training with a pool takes per sample of it, over those of the sample; the larger kind of pool."""
    rows = [row for row in results["pool_cost"]["peak memory"].values() if "over_the_bytes_of_a_sample" in row]
    if not rows:
        raise KeyError("peak memory")
    return float(max(row["over_the_bytes_of_a_sample"] for row in rows))


def _flatness(results: Results) -> float:
    """Cost per sample of the largest set over that of the set of 10⁵, in the same number of shards."""
    table = results["scale"]["source"]
    return float(
        table["10000000 samples, 10 shards"]["us_per_sample"] / table["100000 samples, 10 shards"]["us_per_sample"]
    )


def _transform_overhead(results: Results) -> float:
    return float(max(entry["overhead"] for size in results["transforms"]["sizes"].values() for entry in size.values()))


_SOURCE = "1000000 samples, 1000 shards"
_STREAMS = ("litdata", "webdataset", "MosaicML Streaming")

TARGETS = (
    Target("`SyntheticMixDataset`, 25 %, tuples, in memory, 0 workers: time over unwrapped",
           _path("mixing", "tuple, 0 workers", "ratio 0.25, map-style", "ratio"), 1.05, True, "×", "mixing",
           bound=("two sets and a list, by hand",
                  _path("mixing", "tuple, 0 workers", "0.25 by hand: two sets and a list", "ratio"))),
    Target("the same at ratio 0", _path("mixing", "tuple, 0 workers", "ratio 0", "ratio"), 1.02, True, "×", "mixing",
           bound=("torch's own `Subset`", _path("mixing", "tuple, 0 workers", "Subset of torch", "ratio"))),
    Target("the same at 25 % with 2 workers",
           _path("mixing", "tuple, 2 workers", "ratio 0.25, map-style", "ratio"), 1.03, True, "×", "mixing"),
    Target("`SyntheticMixLoader` over whole batches, 25 %: throughput over the item loader",
           _path("loader", "over whole batches, 0 workers", "whole batches, replace 0.25", "throughput"), 1.7, False,
           "×", "loader",
           bound=("by hand: a copy of the batch, a quarter of its rows replaced",
                  _path("loader", "over whole batches, 0 workers", "whole batches, by hand 0.25", "throughput"))),
    Target("`ShardSource`, verified once per process, whole batches, 1×64×64: throughput over the item loader",
           _read("ShardSource"), 1.4, False, "×", "reading",
           bound=("the same tensor in memory", _read("tensor in memory, whole batch"))),
    Target("the same, verified in each read", _read("ShardSource, verified in each read"), 1.4, False, "×", "reading",
           bound=("not verified, and xxh3 of each sample by hand", _read("not verified, and xxh3 of each sample"))),
    Target("the same, not verified", _read("ShardSource, not verified"), 1.6, False, "×", "reading",
           bound=("the same tensor in memory", _read("tensor in memory, whole batch"))),
    Target("`DataLoader(ShardSource(...), batch_size=64)` with torch's own collating",
           _read("ShardSource, torch's own collating"), 0.9, False, "×", "reading"),
    Target("verified, over litdata, webdataset, MosaicML Streaming (the closest), 1×64×64",
           _over("ShardSource", _STREAMS), 25, False, "×", "reading"),
    Target("verified, over plain h5py, 1×64×64", _over("ShardSource", ("h5py",)), 5, False, "×", "reading"),
    Target("verified, over plain h5py, ≥ 256 KiB (the closest size)",
           _over("ShardSource", ("h5py",), SIZES[1:]), 2.5, False, "×", "reading",
           bound=("the same tensor in memory, over h5py",
                  _over("tensor in memory, whole batch", ("h5py",), SIZES[1:]))),
    Target("verified, over FFCV, 1×64×64", _over("ShardSource", ("FFCV",)), 1, False, "×", "reading",
           bound=("not verified; FFCV verifies nothing", _over("ShardSource, not verified", ("FFCV",)))),
    Target("lz4, 1×64×64", _read("ShardSource, lz4"), 0.38, False, "×", "reading-lz4"),
    Target("zstd, 1×64×64", _read("ShardSource, zstd"), 0.15, False, "×", "reading-zstd",
           bound=("the decoder alone, one thread", _read("zstd, decoder alone"))),
    Target("lz4, 1×256×256", _read("ShardSource, lz4", LARGE), 0.45, False, "×", "reading-lz4",
           bound=("the decoder alone, one thread", _read("lz4, decoder alone", LARGE))),
    Target("zstd, 1×256×256", _read("ShardSource, zstd", LARGE), 0.25, False, "×", "reading-zstd",
           bound=("the decoder alone, one thread", _read("zstd, decoder alone", LARGE))),
    Target("lz4, over every peer's compressed format and size (the closest)", _over_compressed, 1, False, "×",
           "reading-lz4"),
    Target("synthetic only, from shards in the training process: throughput over the item loader",
           _read("ShardSource"), 1.6, False, "×", "reading",
           bound=("the same tensor in memory", _read("tensor in memory, whole batch"))),
    Target("the same over the two-worker loader",
           _read("ShardSource, in the training process", SMALL, "2 workers"), 10, False, "×", "reading",
           bound=("the same tensor in memory, in the training process", _memory_over_workers)),
    Target("real set behind 2 workers, extended by half from shards: samples/s over unmixed",
           _path("loader", "over 2 workers", "extend 0.5, shards", "throughput"), 1.8, False, "×", "loader",
           bound=("a source in memory",
                  _path("loader", "over 2 workers", "extend 0.5, in memory", "throughput"))),
    Target("the same from the pool",
           _path("loader", "over 2 workers", "extend 0.5, pool", "throughput"), 1.8, False, "×", "loader"),
    Target("training loop with a full pool, `SyntheticMixLoader`: throughput over unmixed",
           _path("pool", "training, full pool", "SyntheticMixLoader", "throughput"), 0.98, False, "×", "pool"),
    Target("the same, `SyntheticMixDataset`",
           _path("pool", "training, full pool", "SyntheticMixDataset", "throughput"), 0.98, False, "×", "pool"),
    Target("sampling outside the network, batch 64, 4 steps of DDIM",
           _path("generator", "outside_the_network", "DiffusersSynthesizer, DDIM", "us_per_sample"), 25, True, " µs",
           "generator",
           bound=("its noise alone",
                  _path("generator", "outside_the_network", "its noise alone (seeding.normal)", "us_per_sample"))),
    Target("the same, times less than a diffusers pipeline's", _lead_over_pipeline, 5, False, "×", "generator",
           bound=("its noise alone, against the whole pipeline", _noise_over_pipeline)),
    Target("the same without the noise of either", _lead_beside_noise, 5, False, "×", "generator"),
    Target("samples per processor second of a pool that fills, in a thread, over the generator alone",
           _path("pool_cost", "samples per processor second", "thread", "throughput"), 0.97, False, "×"),
    Target("the same in a process",
           _path("pool_cost", "samples per processor second", "process", "throughput"), 0.97, False, "×",
           "pool-process",
           bound=("a bare process that copies each batch into shared memory",
                  _path("pool_cost", "samples per processor second", "a process by hand that copies into shared memory",
                        "throughput"))),
    Target("memory that a pool sample takes, a quarter renewed per epoch, over its bytes", _pool_sample, 1.3, True,
           "×"),
    Target("`fit` step over the same networks and losses in a loop by hand: throughput (the slowest of the families)",
           _worst_step("fit"), 0.98, False, "×", "fit-step",
           bound=("the same loop by hand, built a second time", _worst_step("the same loop, built again"))),
    Target("pool read by 2 workers, over the item loader in memory",
           _read("SyntheticPool", SMALL, "2 workers"), 1, False, "×", "reading"),
    Target("start of a source with 1,000 shards and 10⁶ samples",
           _path("scale", "source", _SOURCE, "start_s"), 0.5, True, " s", "scale"),
    Target("its memory per worker", _path("scale", "source", _SOURCE, "unshared_MiB"), 64, True, " MiB", "scale"),
    Target("cost per sample of 10⁷ samples over that of 10⁵", _flatness, 1.5, True, "×", "scale"),
    Target("render, model that waits 1 ms per sample: time over the model's own",
           _path("rendering", "render over synthesizer alone", "model that waits", "render", "ratio"), 1.03, True,
           "×", "rendering"),
    Target("render, model that computes on the same CPU (its ms per sample stand below)",
           _path("rendering", "render over synthesizer alone", "model that computes", "render", "ratio"), 1.03,
           True, "×", "rendering",
           bound=("without fsync, sha256, checksums and reading back",
                  _path("rendering", "render over synthesizer alone", "model that computes",
                        "render without fsync, sha256, checksums, reading back", "ratio"))),
    Target("reading shards back before they are committed, gzip (the slowest): share of a render, model that waits",
           _path("rendering", "safety in a render", "gzip", "share of reading back"), 0.02, True, "",
           "rendering"),
    Target("all safety of a render (fsync, sha256, checksums, reading back), gzip: share",
           _path("rendering", "safety in a render", "gzip", "share of fsync, sha256, checksums, reading back"), 0.03,
           True, "", "rendering"),
    Target("checksums of every sample (once per process), in an epoch that only reads and mixes: time over none",
           _path("rendering", "integrity", "epoch that only reads and mixes", "sample", "ratio"), 1.05, True, "×",
           "epoch",
           bound=("without checksums, and xxh3 of each sample by hand",
                  _path("rendering", "integrity", "epoch that only reads and mixes",
                        "off, and xxh3 of each sample read", "ratio"))),
    Target("checksums in each read, in an epoch that only reads and mixes: time over none",
           _path("rendering", "integrity", "epoch that only reads and mixes", "read", "ratio"), 1.05, True, "×",
           "epoch",
           bound=("without checksums, and xxh3 of each sample by hand",
                  _path("rendering", "integrity", "epoch that only reads and mixes",
                        "off, and xxh3 of each sample read", "ratio"))),
    Target("checksums in each read, in an epoch that trains a network of two convolutions: time over none",
           _path("rendering", "integrity", "epoch that trains", "read", "ratio"), 1.05, True, "×",
           "epoch"),
    Target("seeding and conversion, added to TorchIO's transforms (the worst)", _transform_overhead, 0.03, True, "",
           "transforms"),
)  # fmt: skip
