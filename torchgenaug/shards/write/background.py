"""The thread that writes shards while the next samples are being made."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from torchgenaug.screens import CollapseWatch
from torchgenaug.shards.format import Manifest
from torchgenaug.shards.write.writer import ShardWriter
from torchgenaug.types import Batch

_QUEUE_BYTES = 256 << 20


class BackgroundWriter:
    """Writes, hashes and commits shards in one thread, in the order of `put`.

    Batches wait in a queue of at most 256 MiB and one shard (but room for two batches), so that memory and the work
    that a kill would undo stay bounded when the disk is slower than the model.

    Args:
        folder: the shard folder.
        manifest: its manifest.
        on_commit: called in the thread with (file name, bytes) after each commit.

    Attributes:
        alarm: what `CollapseWatch` noticed about the first samples of a shard; empty if all is well. Looked for until
            something is found, anew in each shard: so it depends on the ids, not on where this run began.
    """

    def __init__(self, folder: Path, manifest: Manifest, on_commit: Callable[[str, int], None]) -> None:
        self._folder, self._manifest, self._on_commit = folder, manifest, on_commit
        waiting = _QUEUE_BYTES // (manifest.batch_size * manifest.decoded_bytes())
        self._queue: queue.Queue[tuple[int, Batch, npt.NDArray[np.uint64], int | None] | None] = queue.Queue(
            max(2, min(waiting, manifest.shard_size // manifest.batch_size))
        )
        self._error: BaseException | None = None
        self._aborted = False
        self.alarm = ""
        self._thread = threading.Thread(target=self._run, name="torchgenaug-shard-writer", daemon=True)
        self._thread.start()

    def put(self, first_id: int, batch: Batch, seeds: npt.NDArray[np.uint64], call_size: int | None = None) -> None:
        """Hands over the samples from `first_id` on; waits while the queue is full.

        Args:
            first_id: id of the first.
            batch: the samples, on the CPU.
            seeds: their seeds.
            call_size: as for `ShardWriter.write`.

        Raises:
            OSError: what the thread met when it wrote earlier samples.
        """
        self._raise()
        self._queue.put((first_id, batch, seeds, call_size))

    def finish(self) -> None:
        """Waits until all that was `put` is committed, and raises what went wrong."""
        self._queue.put(None)
        self._thread.join()
        self._raise()

    def abort(self) -> None:
        """Drops what is not committed and ends the thread; a shard that is just being committed still is."""
        self._aborted = True
        self._queue.put(None)
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        writer: ShardWriter | None = None
        watch = CollapseWatch()
        while (item := self._queue.get()) is not None:
            # After an error the queue is still emptied: `put` must never wait for a thread that has stopped.
            if self._error is not None or self._aborted:
                continue
            first_id, batch, seeds, call_size = item
            try:
                if writer is None:
                    writer = ShardWriter(self._folder, self._manifest, first_id // self._manifest.shard_size)
                    watch = CollapseWatch()
                if not (self.alarm or watch.is_over):
                    self.alarm = watch.add(range(first_id, first_id + len(seeds)), batch)
                rows = {name: field.encode(batch[name]) for name, field in self._manifest.fields.items()}
                writer.write(first_id, rows, seeds, call_size)
                if first_id + len(seeds) == writer.ids.stop:
                    done, writer = writer, None
                    self._on_commit(*done.commit())
            except BaseException as error:  # handed to the caller's thread by `put` or `finish`
                self._error = error
                if writer is not None:
                    writer.abort()
                    writer = None
        if writer is not None:
            writer.abort()
