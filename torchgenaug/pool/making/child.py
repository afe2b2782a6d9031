"""What runs in the process of a pool with ``background="process"``: the model, and what takes care that it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from operator import attrgetter
from typing import Any

import torch

from torchgenaug import devices
from torchgenaug.contracts import device_of
from torchgenaug.errors import ConfigurationError, PoolError, describe_error, describe_traceback
from torchgenaug.pool.making.limit import apply_limit, private_bytes
from torchgenaug.pool.making.supply import LocalSupply
from torchgenaug.pool.making.weights import weights_of
from torchgenaug.sequence.sequence import SyntheticSequence

_LOOK_S = 0.5
_PRECISIONS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


def numeric_settings() -> dict[str, Any]:
    """What else decides the bits of a sample, apart from its batch: taken from this process, for the other one."""
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "deterministic": _deterministic(),
        "cudnn": {name: getattr(torch.backends.cudnn, name) for name in ("benchmark", "deterministic")},
        "precision": _precision(),
    }


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _precision() -> dict[str, str] | tuple[str, bool]:
    """Whether float32 is rounded to TF32: in the words of torch 2.9 if those were used, which forbids older ones."""
    try:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return {name: attrgetter(name)(torch.backends).fp32_precision for name in _PRECISIONS}


def serve(
    connection: Connection, owner: int, settings: Mapping[str, Any], offload: bool, memory_limit: float | None
) -> None:
    """Answers the owner's requests until it is killed: by the owner, or by itself when the owner is gone.

    Args:
        connection: first brings the pickled sequence, or the function that builds it; then staging memory and render;
            then ids, again and again, or None to rest. Every message is answered by (True, result) or (False,
            (exception, traceback)).
        owner: the process that asks.
        settings: its `numeric_settings`.
        offload: see `LocalSupply`.
        memory_limit: see `torchgenaug.pool.making.limit`.
    """
    # Ctrl-C goes to all processes of a terminal; what it means for this one, the owner decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_end_with, args=(owner,), name="torchgenaug-owner", daemon=True).start()
    try:
        _apply(settings)
        before = private_bytes()
        source = pickle.loads(connection.recv_bytes())  # noqa: S301 (from the process that started this one)
        sequence = source if isinstance(source, SyntheticSequence) else source()
        if not isinstance(sequence, SyntheticSequence):
            raise ConfigurationError(
                f"`sequence` must be a SyntheticSequence or a function that builds one, got a function that returned "
                f"{type(sequence).__name__}."
            )
        if offload:
            weights_of(sequence.synthesizer)
        if memory_limit is not None:
            apply_limit(memory_limit, device_of(sequence.synthesizer), before)
        _answer(connection, True, (dict(sequence.fields), sequence.fingerprint, sequence.seed, sequence.trained_on))
        staging, shards = pickle.loads(connection.recv_bytes())  # noqa: S301
        supply = LocalSupply(sequence, shards, offload=offload)
    except EOFError:
        return
    except BaseException as error:  # whatever it is, the owner has to hear of it
        _answer(connection, False, _portable(error))
        return
    while True:
        try:
            ids = pickle.loads(connection.recv_bytes())  # noqa: S301
        except EOFError:
            return
        try:
            if ids is None:
                supply.rest()
                devices.empty_cache()  # what torch keeps for later, the training process could not have
                _answer(connection, True, None)
                continue
            delivery = supply.batch(ids)
            staging.put(delivery.samples)
            _answer(connection, True, dataclasses.replace(delivery, samples={}))
        except BaseException as error:
            _answer(connection, False, _portable(error))


def _answer(connection: Connection, succeeded: bool, content: object) -> None:
    connection.send_bytes(pickle.dumps((succeeded, content)))


def _portable(error: BaseException) -> tuple[BaseException, str]:
    """The error as it can be pickled, and its traceback."""
    text, comes_back = describe_traceback(error), False
    # Only an exception can be raised on the other side. Pickling runs code of the exception's own, which may fail.
    with contextlib.suppress(BaseException):
        comes_back = type(pickle.loads(pickle.dumps(error))) is type(error)  # noqa: S301
    return error if comes_back else PoolError(describe_error(error)), text


def _end_with(owner: int) -> None:
    """Ends this process soon after its owner. A pipe would not tell: the owner's forks keep it open."""
    while os.getppid() == owner:
        time.sleep(_LOOK_S)
    os._exit(1)


def _apply(settings: Mapping[str, Any]) -> None:
    torch.set_num_threads(settings["threads"])
    if isinstance(settings["precision"], dict):
        for name, value in settings["precision"].items():
            attrgetter(name)(torch.backends).fp32_precision = value
    else:
        matmul, torch.backends.cudnn.allow_tf32 = settings["precision"]
        torch.set_float32_matmul_precision(matmul)
    torch.set_default_dtype(settings["dtype"])
    if settings["deterministic"] != _deterministic():  # the call imports torch.compile: a second and 100 MB
        enabled, warn_only = settings["deterministic"]
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    for name, value in settings["cudnn"].items():
        setattr(torch.backends.cudnn, name, value)
