"""Ends the pool's thread when the interpreter exits, even in the middle of a call of the model.

Python ends a daemon thread that asks for the interpreter's lock after the interpreter has begun to go down by unwinding
its stack (until Python 3.13). In between lie the C++ functions of torch, some of which must not be unwound: C++ then
calls ``std::terminate``, and a script that had succeeded ends with status 134. So the thread is stopped before: by an
exception that Python raises in it at its next bytecode. Where there is none for long, inside a single call of C++, the
thread is made to sleep in ``std::terminate`` instead.
"""

from __future__ import annotations

import ctypes
import threading
import time

_PAUSE_S = 0.02
_LIBRARIES = ("libstdc++.so.6", "libc++.1.dylib")


class ScriptEnds(BaseException):
    """Raised in the thread of a pool, inside the model, when the script ends."""


def interrupt(thread: threading.Thread, until_s: float) -> bool:
    """Raises `ScriptEnds` in a thread, again and again, until it ends; whether it did before `until_s` (monotonic)."""
    thread.join(_PAUSE_S)  # one that has nothing to do ends by itself
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    while thread.is_alive() and thread.ident is not None and time.monotonic() < until_s:
        raise_in(ctypes.c_ulong(thread.ident), ctypes.py_object(ScriptEnds))
        thread.join(_PAUSE_S)
    return not thread.is_alive()


def sleep_on_termination() -> None:
    """From now on a thread that C++ would end the process for sleeps instead, until the process has ended."""
    for library in _LIBRARIES:
        try:
            set_handler = ctypes.CDLL(library)._ZSt13set_terminatePFvvE
            pause = ctypes.CDLL(None).pause
        except (OSError, AttributeError):
            continue
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(ctypes.cast(pause, ctypes.c_void_p))
        return
