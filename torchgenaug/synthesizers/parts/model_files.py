"""Reads the files of model folders that may come from anywhere: regular files only, of bounded size.

A folder can hold more than files: a named pipe, which never ends a read, or a link to a device, which never ends at
all. Every reader of the package opens model files here, so that none of them hangs or fills the memory.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

from torchgenaug.errors import SynthesizerLoadError

MAX_JSON_BYTES = 32 << 20
"""Largest JSON file that is parsed; the identifiers of 300,000 training samples need about half of it."""

_MAX_DEPTH, _MAX_VALUES = 64, 1_000_000
_MAX_HEADER = 64 << 20  # of a safetensors file: about 500,000 tensors
_ITEM_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
}


def read_file(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file.

    Args:
        path: the file; links are followed, as in the cache of the Hugging Face hub, and what they lead to is checked.
        max_bytes: refused above this, before anything is read.

    Raises:
        SynthesizerLoadError: no regular file, too large, or not readable.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe waits until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            _check_regular(about, path, max_bytes)
            content = file.read(about.st_size + 1)
    except OSError as error:
        raise SynthesizerLoadError(f"{path} must be readable, got {error!r}. Fetch or save the model again.") from error
    if len(content) != about.st_size:
        raise SynthesizerLoadError(f"{path} must not change while it is read, got another size. Load the model again.")
    return content


def check_file(path: Path, max_bytes: int | None = None) -> int:
    """Raises `SynthesizerLoadError` unless `path` is a regular file of at most `max_bytes`; returns its size.

    For libraries that open files by themselves. `max_bytes`: default: what memory is free.
    """
    try:
        about = path.stat()
    except OSError as error:
        raise SynthesizerLoadError(f"{path} must be readable, got {error!r}. Fetch the model again.") from error
    _check_regular(about, path, free_memory() if max_bytes is None else max_bytes)
    return about.st_size


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        SynthesizerLoadError: no such file, or one that `parse_json` refuses.
    """
    if not path.exists():
        raise SynthesizerLoadError(f"`path` must hold {path.name}, got {path.parent} without it. Check the path.")
    return parse_json(read_file(path, MAX_JSON_BYTES), path)


def parse_json(content: bytes, place: Path | str) -> dict[str, Any]:
    """A JSON object, nested at most 64 deep and of at most a million values.

    Raises:
        SynthesizerLoadError: anything else.
    """
    if has_too_many_values(content):
        raise SynthesizerLoadError(
            f"{place} must hold at most {_MAX_VALUES:,} values, got more. No model needs that many. Nothing was loaded."
        )
    deep = (
        f"{place} must be nested at most {_MAX_DEPTH} levels deep, got more. Nothing was loaded. Save the model again."
    )
    try:
        parsed = json.loads(content.decode())
    except RecursionError as error:
        raise SynthesizerLoadError(deep) from error
    except ValueError as error:
        raise SynthesizerLoadError(f"{place} must be a JSON file, got {error}. Save the model again.") from error
    if not isinstance(parsed, dict):
        raise SynthesizerLoadError(f"{place} must hold a JSON object, got {parsed!r:.40}. Save the model again.")
    if _is_deep(parsed):
        raise SynthesizerLoadError(deep)
    return parsed


def has_too_many_values(content: bytes) -> bool:
    """Whether JSON text holds more values than `parse_json` takes; nothing of the kind should be written either."""
    return content.count(b",") > _MAX_VALUES or content.count(b"[") + content.count(b"{") > _MAX_VALUES // 4


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor of a safetensors file, from its header alone.

    Raises:
        SynthesizerLoadError: no regular file, or one whose size is not the one that its header states.
    """
    size = check_file(path)
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = parse_json(file.read(length), path)
        header.pop("__metadata__", None)
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in header.items()}
        needed = sum(math.prod(shapes[name]) * _ITEM_BYTES[entry["dtype"]] for name, entry in header.items())
        if needed != size - 8 - length:
            raise ValueError(f"{size - 8 - length} bytes of tensors where the header states {needed}")
    except SynthesizerLoadError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise SynthesizerLoadError(
            f"{path} must hold weights that fit its configuration, as safetensors, got {error}. Fetch or save the "
            "model again."
        ) from error
    return shapes


def _check_pickle(path: Path) -> None:
    """Raises `SynthesizerLoadError` unless `path` is a regular file that needs no more memory than it has bytes.

    `torch.save` stores tensors uncompressed, in a zip archive; a compressed one can grow a thousandfold.
    """
    check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            packed = next((each.filename for each in archive.infolist() if each.compress_type), None)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # of an older torch, without an archive; or damaged, which the unpickler says
    if packed is not None:
        raise SynthesizerLoadError(
            f"{path} must hold tensors as torch.save stores them, uncompressed, got {packed[:80]!r}, which is "
            "compressed. Nothing of it was read. Fetch it again."
        )


def read_pickle(path: Path, remedy: str) -> Any:
    """What `torch.save` wrote, if it is tensors in plain containers; anything else in the file is not executed.

    Args:
        path: a regular file, not compressed.
        remedy: what the user can do about a file that holds other things: the last sentence of the error.

    Raises:
        SynthesizerLoadError: it holds other things, or is damaged.
    """
    import torch

    _check_pickle(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SynthesizerLoadError(
            f"{path} must hold tensors in plain containers, got {error!r:.300}. Nothing else in it was executed. "
            f"{remedy}"
        ) from error


def free_memory() -> int:
    """Bytes of memory that a model may take: what the machine has free now, at least 256 MiB; no limit if unknown."""
    try:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = 1024 * int(line.split()[1])
    except (ValueError, OSError, AttributeError):
        return 1 << 62
    return max(free, 256 << 20)


def _check_regular(about: os.stat_result, path: Path, max_bytes: int) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise SynthesizerLoadError(
            f"{path} must be a regular file, got {_kind(about.st_mode)}. Nothing of it was read. Fetch the model again "
            "from a source that you trust."
        )
    if about.st_size > max_bytes:
        raise SynthesizerLoadError(
            f"{path} must have at most {max_bytes:,} bytes, got {about.st_size:,}. Nothing of it was read. Check the "
            "file, or load the model on a machine with more memory."
        )


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISFIFO: "a named pipe",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
        stat.S_ISSOCK: "a socket",
        stat.S_ISDIR: "a folder",
    }
    return next((name for test, name in kinds.items() if test(mode)), "something else")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
