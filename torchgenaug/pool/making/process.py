"""`ProcessSupply`: the model in a process of its own, whose Python never holds up the training loop's."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import pickle
import signal
import weakref
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from torchgenaug.contracts import SyntheticSource
from torchgenaug.errors import ConfigurationError, PoolError
from torchgenaug.pool.making.child import numeric_settings, serve
from torchgenaug.pool.making.staging import Staging
from torchgenaug.pool.making.supply import Delivery
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.types import FieldSpec


class ProcessSupply:
    """A `Supply` that asks a spawned process, which ends with this one, however this one ends.

    A process that died is named by the error of the batch in flight, and started anew for the next one.

    Args:
        source: a picklable sequence, or a picklable function that builds it in that process.
        timeout_s: how long it may take to build.
        offload: whether the weights go to host memory in `rest`.
        memory_limit: how much memory it may take; see `torchgenaug.pool.making.limit`.

    Attributes:
        fields: of the sequence.
        fingerprint: of the sequence.
        seed: of the sequence.
        trained_on: of the sequence.

    Raises:
        ConfigurationError: it cannot be pickled.
        PoolError: the process died, or took too long. Whatever building the sequence raised is raised as it is.
    """

    elsewhere = True
    captures_graphs = False

    def __init__(
        self,
        source: SyntheticSequence | Callable[[], SyntheticSequence],
        timeout_s: float,
        *,
        offload: bool = False,
        memory_limit: float | None = None,
    ) -> None:
        self._source, self._timeout_s, self.rests, self._memory_limit = source, timeout_s, offload, memory_limit
        self._staging: Staging | None = None
        self._shards: SyntheticSource | None = None
        self._closed = False
        self.fields: Mapping[str, FieldSpec]
        self.fingerprint: str
        self.seed: int
        self.trained_on: Mapping[str, Any] | None
        self.fields, self.fingerprint, self.seed, self.trained_on = self._start()

    def prepare(self, batch_size: int, shards: SyntheticSource | None) -> None:
        """To be called once, before the first batch.

        Args:
            batch_size: samples of a batch.
            shards: a render of the sequence, or None.
        """
        try:
            self._staging, self._shards = Staging(self.fields, batch_size), shards
        except OSError as error:
            raise ConfigurationError(
                f"`batch_size` must be such that a batch fits into memory, got {batch_size}, for which {error}. Lower "
                "`batch_size`, or use background=True, which needs no room for a second copy."
            ) from error
        self._send(pickle.dumps((self._staging, self._shards)))

    def batch(self, ids: npt.NDArray[np.int64]) -> Delivery:
        """See `Supply.batch`. The samples lie in memory that the next call overwrites."""
        if self._staging is None or self._closed:
            raise PoolError("The process of the pool was not started, or was ended.")
        if not self._process.is_alive():
            self._restart()
            self._send(pickle.dumps((self._staging, self._shards)))
        self._send(pickle.dumps(ids))
        delivery = cast(Delivery, self._receive(None))
        return dataclasses.replace(delivery, samples=self._staging.samples)

    def rest(self) -> None:
        """See `Supply.rest`. A process that is gone has given everything back."""
        if not self._closed and self._process.is_alive():
            self._send(pickle.dumps(None))
            self._receive(None)

    def close(self) -> None:
        """Kills the process: nothing in it is worth waiting for."""
        self._closed = True
        self._end()

    def _restart(self) -> None:
        fields, fingerprint, seed, _ = self._start()
        if (fields, fingerprint, seed) != (self.fields, self.fingerprint, self.seed):
            self._end()
            raise PoolError(
                "The pool's process ended, and the sequence that it built when it was started again is another one: "
                f"fingerprint {fingerprint} instead of {self.fingerprint}. Its checkpoint or its settings were changed "
                "meanwhile, and an epoch would mix two models. Restore them and call `set_epoch`, or build a new pool."
            )

    def _start(self) -> Any:
        try:
            payload = pickle.dumps(self._source)
        except Exception as error:
            raise ConfigurationError(
                f"`sequence` must be picklable for background='process', got {self._source!r}: {error}. "
                "Define functions and classes at the top of a module, or give a function that builds the sequence: "
                "SyntheticPool(build_sequence, capacity, background='process')."
            ) from error
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=serve,
            args=(theirs, os.getpid(), numeric_settings(), self.rests, self._memory_limit),
            name="torchgenaug-pool",
            daemon=True,
        )
        # The child begins with the mask of this thread: Ctrl-C cannot reach it before it is prepared.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        self._end = weakref.finalize(self, _kill, self._process, os.getpid())
        try:
            self._send(payload)
            return self._receive(self._timeout_s)
        except BaseException:
            self._end()
            raise

    def _send(self, message: bytes) -> None:
        try:
            self._connection.send_bytes(message)
        except OSError as error:
            raise self._death() from error

    def _receive(self, timeout_s: float | None) -> object:
        ready = wait([self._connection, self._process.sentinel], timeout_s)
        if not ready:
            raise PoolError(
                f"The pool's process did not build its sequence within `timeout_s` = {timeout_s:g} s. Raise it."
            )
        try:
            if self._connection not in ready and not self._connection.poll():
                raise self._death()
            succeeded, content = pickle.loads(self._connection.recv_bytes())  # noqa: S301 (from our own child)
        except (EOFError, ConnectionError) as error:
            raise self._death() from error
        if succeeded:
            return content
        failure, text = content
        raise failure from _ChildTraceback(text)

    def _death(self) -> PoolError:
        self._process.join(5)
        code = self._process.exitcode
        if code is None:
            how = "does not answer"
        elif code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"ended with status {code}"
        return PoolError(
            f"The pool's process (number {self._process.pid}) {how}. What it wrote to stderr may say why; "
            "SIGKILL often means that the machine ran out of memory. Scripts that start processes need "
            "`if __name__ == '__main__':`."
        )


class _ChildTraceback(Exception):  # noqa: N818 (it is no error of its own: it shows where in the child the error arose)
    def __str__(self) -> str:
        return f"\nin the pool's process:\n{self.args[0]}"


def _kill(process: BaseProcess, owner: int) -> None:
    if os.getpid() == owner and process.is_alive():
        process.kill()
        process.join(5)
