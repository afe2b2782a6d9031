"""Python programs in a new interpreter that has imported torch already, which takes most of the start of a program.

One process a session imports torch and nothing else; each program is a fork of it, and ends as any interpreter does.
Not for what a program shows in ``/proc``, for what Python reads at its start, or to see torch imported.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import multiprocessing.util
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_ONE_AT_A_TIME = threading.Lock()


def start(arguments: Sequence[object], **options: Any) -> subprocess.Popen[str]:
    """``subprocess.Popen([sys.executable, *arguments], text=True, **options)``, without the import of torch.

    Args:
        arguments: ``["-c", code, ...]``, ``["-m", module, ...]`` or ``[script, ...]``.
        options: Of `subprocess.Popen`: standard streams, ``cwd``, ``env`` and ``start_new_session``.
    """
    return _Program([sys.executable, *map(str, arguments)], **{"text": True, **options})


def run(arguments: Sequence[object], *, timeout: float = 240, **options: Any) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with ``capture_output=True``."""
    with start(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as child:
        try:
            stdout, stderr = child.communicate(timeout=timeout)
        finally:
            child.kill()
    return subprocess.CompletedProcess(child.args, child.returncode, stdout, stderr)


def small_shared_memory(size: str) -> str:
    """Code that leaves its process, which must be root's, `size` ("64k") of shared memory."""
    return f"""
import ctypes, subprocess
assert ctypes.CDLL(None).unshare(0x20000) == 0  # CLONE_NEWNS
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size={size}", "torchgenaug-test", "/dev/shm"], check=True)
"""


def spawner() -> Callable[..., int]:
    """For `multiprocessing.util.spawnv_passfds`: the processes of the method spawn start so, too, in this process."""
    real, owner = multiprocessing.util.spawnv_passfds, os.getpid()

    def spawn(path: str, arguments: Sequence[Any], numbers: Sequence[int]) -> int:
        words = [os.fsdecode(word) for word in arguments[1:]]
        if os.getpid() != owner or not any("spawn_main" in word for word in words):
            return real(path, arguments, numbers)
        kept = [0, 1, 2, *map(int, numbers)]
        return _fork(words[words.index("-c") :], os.getcwd(), os.environ, dict(zip(kept, kept, strict=True)))

    return spawn


def close() -> None:
    """Ends the process that all programs are forks of; they go on."""
    if _server.cache_info().currsize:
        requests, process = _server()
        with requests, process:
            process.kill()
        _server.cache_clear()


class _Program(subprocess.Popen[str]):
    def _execute_child(
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, flags, shell,
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *rest,
    ):  # fmt: skip
        given = {0: p2cread, 1: c2pwrite, 2: errwrite}
        streams = {number: each if each >= 0 else number for number, each in given.items()}
        place, environment = os.fspath(cwd or os.getcwd()), os.environ if env is None else env
        *_, session, _ = rest
        self.pid = _fork(args[1:], place, environment, streams, session=session)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def _fork(
    words: list[str], folder: str, environment: Mapping[str, str], files: dict[int, int], *, session: bool = False
) -> int:
    """The process of the program, a child of this one; `files` are ours by their numbers there."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    reaper, program = ctypes.CDLL(None), pickle.dumps((words, folder, dict(environment), [*files], session, mask))
    with _ONE_AT_A_TIME:
        server, _ = _server()
        reaper.prctl(_SET_CHILD_SUBREAPER, 1)
        try:
            socket.send_fds(server, [program], [*files.values()])
            return int(server.recv(64))
        finally:
            reaper.prctl(_SET_CHILD_SUBREAPER, 0)


@functools.cache
def _server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, __file__, str(theirs.fileno())]
        return ours, subprocess.Popen(command, pass_fds=[theirs.fileno()])


def _serve(requests: socket.socket) -> list[str]:
    """Returns in each fork, with what it is to run."""
    import gc

    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    while True:
        message, received, *_ = socket.recv_fds(requests, 1 << 20, 253)
        if not message:
            os._exit(0)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            between, child = os.getpid(), os.fork()
            if child == 0:
                break
            os.write(writing, str(child).encode())
            os._exit(0)
        os.waitpid(between, 0)
        requests.send(os.read(reading, 64))
        for number in (reading, writing, *received):
            os.close(number)
    while os.getppid() == between:  # until it belongs to who wants it
        time.sleep(0.001)
    requests.detach()
    words, folder, environment, numbers, session, mask = pickle.loads(message)
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD, max(numbers) + 1) for each in received]
    for each, number in zip(moved, numbers, strict=True):
        os.dup2(each, number)
    for other in {int(name) for name in os.listdir("/proc/self/fd")} - set(numbers):
        try:
            os.close(other)
        except OSError:  # of the listing itself
            continue
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if session:
        os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return words


def _execute(first: str, *rest: str) -> None:
    module = sys.modules["__main__"] = type(sys)("__main__")
    for path in reversed(os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        if path and path not in sys.path:
            sys.path.insert(1, path)
    if first == "-m":
        sys.argv[:], sys.path[0] = rest, os.getcwd()
        runpy._run_module_as_main(rest[0])
    elif first == "-c":
        sys.argv[:], sys.path[0] = ["-c", *rest[1:]], ""
        exec(compile(rest[0], "<string>", "exec"), vars(module))
    else:
        sys.argv[:], sys.path[0] = [first, *rest], os.path.dirname(os.path.abspath(first))
        module.__file__ = first
        exec(compile(Path(first).read_text(), first, "exec"), vars(module))


if __name__ == "__main__":
    _execute(*_serve(socket.socket(fileno=int(sys.argv[1]))))
