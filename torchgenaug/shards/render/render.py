"""`render_shards`: a stretch of a synthetic sequence, written to disk; stop it at any moment and run it again."""

from __future__ import annotations

import os
from typing import Literal

from torchgenaug.local_paths import expanded
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.shards.inventory import Damage, truncated_shards
from torchgenaug.shards.read.reader import ShardSource
from torchgenaug.shards.render.making import check_space, disk_errors_named, make_shards, num_threads
from torchgenaug.shards.render.new_plan import NewPlan
from torchgenaug.shards.render.plan import adopt_plan, lay_down, plan_render, refuse_url
from torchgenaug.shards.render.ranks import Presence, Ranks, wait_for_others, wait_for_plan
from torchgenaug.shards.render.report import Progress, Report
from torchgenaug.shards.render.watchdog import Watchdog
from torchgenaug.shards.structure import filters
from torchgenaug.shards.temporary import remove_abandoned
from torchgenaug.shards.verify import damaged_shards


def render_shards(
    sequence: SyntheticSequence,
    path: str | os.PathLike[str],
    count: int,
    *,
    batch_size: int = 32,
    shard_size: int = 1024,
    compression: str | None = None,
    dtype: str | None = None,
    resume: bool | Literal["verify", "extend"] = True,
    progress: bool | Progress | None = None,
    ranks: tuple[int, int] | None = None,
    timeout_s: float | None = None,
) -> ShardSource:
    """Renders samples 0 to count - 1 into a folder of HDF5 shards, and opens it.

    Deterministic: the same call gives the same bytes, in one go or interrupted any number of times. Writing, hashing
    and syncing happen in a second thread while the next samples are made.

    The first 256 samples of each shard are watched for collapse of the model (`torchgenaug.screens.CollapseWatch`).

    Under ``torchrun`` or ``accelerate launch`` call it in every process: rank r of W makes the shards r, r + W, …, and
    returns when all are there. The folder is all that the processes share; the bytes are those of one process, and a
    resume may use another number. torch computes with as many threads as in the first run, which the manifest states.
    On several machines, load the model within `announce_rank`: a process that dies while it loads is then missed soon.

    An error before the first shard is complete leaves nothing behind where one process renders into a folder without a
    render. An interruption, a full disk, and errors of one process of several leave the plan, ``manifest.json``, by
    which the same call goes on.

    Args:
        sequence: what to render.
        path: the folder (no URL); made if absent. One that holds a part of this very render is completed.
        count: number of samples.
        batch_size: samples made in one call of the synthesizer. Part of the plan: it decides their last bits.
        shard_size: samples per file, rounded up to a multiple of `batch_size`.
        compression: None (fastest to read), ``"lz4"``, ``"zstd"`` (smallest; both need ``hdf5plugin``) or ``"gzip"``.
        dtype: stored dtype of floating-point intensity fields: ``"float32"``, ``"float16"``, ``"uint8"`` or
            ``"uint16"``; None keeps each field's own. The reader gives the field's own dtype back; the manifest states
            the worst error.
        resume: True keeps finished shards (only their sizes are looked at); False refuses a folder that already holds a
            render; ``"verify"`` reads the finished shards and makes the damaged ones again; ``"extend"`` also takes a
            folder of the same render with a smaller `count`, and adds the rest to it: the bytes are those of one
            render of `count` samples.
        progress: True or False for a bar or none, None for a bar if stderr is a terminal, or a function of (samples
            made, samples to make, bytes committed). Only rank 0 draws a bar, which counts its own part.
        ranks: (rank, world_size) of this process; default: what the launcher put into the environment (RANK,
            WORLD_SIZE), or (0, 1). With (0, 1) this process makes everything, whatever the environment says.
        timeout_s: how long one batch may take: a model that hangs is given up, with ids and seeds. None: it is waited
            for, and every batch that takes 10 minutes is reported on stderr. See `torchgenaug.shards.render.watchdog`.

    Returns:
        The finished folder as a source.

    Raises:
        ConfigurationError: an argument outside its domain, or a folder that holds something else.
        ShardMismatchError: the folder holds a render of another plan; every difference is listed.
        ShardError: not enough space on the disk, or a batch took longer than `timeout_s`. What was committed stays.
        ShardIncompleteError: this rank's part is done, but another rank ended without its own.
        BadSampleError: the synthesizer returned what it must not. What was committed stays.

    Warns:
        CollapseWarning: too many samples look alike. Once per call; they are rendered all the same.

    Example:
        >>> import tempfile
        >>> from torchgenaug.testing import AnalyticSynthesizer
        >>> folder = tempfile.mkdtemp()
        >>> source = render_shards(SyntheticSequence(AnalyticSynthesizer()), folder, 100, progress=False)
        >>> len(source), source.read([99, 0])["image"].shape
        (100, torch.Size([2, 1, 32, 32]))
    """
    part = Ranks.from_environment() if ranks is None else Ranks(*ranks)
    refuse_url(path)
    manifest = plan_render(
        sequence, count, batch_size=batch_size, shard_size=shard_size, compression=compression, dtype=dtype
    )
    watchdog = Watchdog(timeout_s)
    filters(compression)  # an absent package is found now, not after the first shard
    folder = expanded(path)
    new = NewPlan(folder, alone=part.world_size == 1)
    with disk_errors_named(folder):
        if part.rank == 0:
            manifest = lay_down(manifest, folder, resume=resume)
        else:
            wait_for_plan(folder, part, count if resume == "extend" else 0)
            manifest = adopt_plan(manifest, folder)
        remove_abandoned(folder)
        with Presence(folder, part):
            find = damaged_shards if resume == "verify" else truncated_shards
            damage = Damage(folder, manifest, find)
            everything = damage.to_make()
            todo = [index for index in everything if part.owns(index)]
            check_space(folder, manifest, todo if part.rank else everything, new)
            committed: set[str] = set()
            if todo:
                total = sum(len(manifest.shard_range(index)) for index in todo)
                shown = progress if callable(progress) or part.rank == 0 else False
                name = "render" if part.world_size == 1 else f"render, rank 0 of {part.world_size}"
                with Report(shown, total, name) as report, num_threads(manifest.num_threads):
                    make_shards(sequence, folder, manifest, todo, report, watchdog, new)
                    committed = report.names
            damage.clear(part.owns, committed)
    try:
        wait_for_others(folder, manifest, part, damage.unsettled)
    except KeyboardInterrupt as error:
        error.add_note("The shards of this rank are complete. Run the same render again to make the rest.")
        raise
    return ShardSource(folder)
