"""Python programs in a process forked from this one, which has imported what they need: seconds less than a new one.

Not for what a fresh interpreter is tested for: what is imported when, how a process ends, the peak of its memory.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing.process
import multiprocessing.util
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch.distributed import TCPStore


def start(
    arguments: Sequence[object], *, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[str]:
    """``subprocess.Popen([sys.executable, *arguments], env=env, text=True, **options)``, of a fork.

    Args:
        arguments: ``["-c", code, ...]``, ``["-m", module, ...]`` or ``[script, ...]``.
        env: The whole environment; this process's if `None`.
        options: Of `subprocess.Popen`.
    """
    texts = [str(each) for each in arguments]
    environment = dict(os.environ if env is None else env)
    before = set(os.listdir("/proc/self/fd"))

    def program() -> None:
        # Popen waits until this pipe of its own is closed, which else exec does.
        for number in set(os.listdir("/proc/self/fd")) - before:
            with contextlib.suppress(OSError):
                os.close(int(number))
        os._exit(_run(texts, environment))

    return subprocess.Popen([sys.executable, *texts], preexec_fn=program, **{"text": True, **options})


def run(
    arguments: Sequence[object], *, env: Mapping[str, str] | None = None, timeout: float = 240, **options: Any
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with ``capture_output=True``, of a fork."""
    with start(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as child:
        try:
            stdout, stderr = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            raise
    return subprocess.CompletedProcess(child.args, child.returncode, stdout, stderr)


def run_ranks(
    arguments: Sequence[object], world_size: int, *, env: Mapping[str, str] | None = None, **options: Any
) -> list[subprocess.CompletedProcess[str]]:
    """The processes that ``torchrun --standalone --nproc_per_node WORLD_SIZE`` would start, each of them a fork."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun's own agent
    children = []
    for rank in range(world_size):
        texts = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
        texts |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
        environment = {**(os.environ if env is None else env), **{name: str(value) for name, value in texts.items()}}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        children.append(start(arguments, env=environment, **pipes, **options))
    try:
        outputs = [child.communicate(timeout=240) for child in children]
    finally:
        for child in children:
            child.kill()
    return [
        subprocess.CompletedProcess(each.args, each.returncode, *output)
        for each, output in zip(children, outputs, strict=True)
    ]


def _run(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Runs the program in the fork and returns its exit status."""
    _forget_the_parent(environment)
    status = 0
    try:
        _execute(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
    except BaseException as error:
        traceback.print_exc()
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return status


def _forget_the_parent(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, closefd=False)  # noqa: SIM115
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    warnings.resetwarnings()
    logging.root.handlers.clear()
    multiprocessing.process._children.clear()  # type: ignore[attr-defined]
    multiprocessing.util._finalizer_registry.clear()  # type: ignore[attr-defined]
    if "accelerate" in sys.modules:  # keeps its processes for the life of an interpreter
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def _execute(arguments: list[str]) -> None:
    first, *rest = arguments
    if first == "-c":
        code, *rest = rest
        sys.argv = ["-c", *rest]
        sys.path.insert(0, "")
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        exec(compile(code, "<string>", "exec"), module.__dict__)
    elif first == "-m":
        name, *rest = rest
        sys.argv = [name, *rest]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        sys.path.insert(0, os.path.dirname(os.path.abspath(first)))
        runpy.run_path(first, run_name="__main__")
