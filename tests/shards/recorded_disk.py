"""A record of what a render asks of the file system, and every state that a power cut may leave behind.

The method of Pillai et al. (2014), All file systems are not created equal: on the complexity of crafting
crash-consistent applications (OSDI): of what was written, only what an fsync of the file has confirmed is sure to be
there, any part of the rest may be; of names given and taken, only what an fsync of the folder has confirmed, any subset
of the rest.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchgenaug.shards import folder, temporary
from torchgenaug.shards import inventory as damage
from torchgenaug.shards.render import plan
from torchgenaug.shards.render import render as render_module
from torchgenaug.shards.write import writer

SECTOR = 512  # bytes: what a disk writes whole or not at all
Event = tuple[Any, ...]


class RecordedDisk:
    """`os` for the shards' modules, through which HDF5 writes, too: passes everything on, and notes it in `events`.

    Args:
        monkeypatch: undoes it.
        root: the render's folder, which does not exist yet.
    """

    def __init__(self, monkeypatch: Any, root: Path) -> None:
        self.events: list[Event] = []
        self._root, self._inodes = root, dict[int, int]()
        for module in (folder, temporary, plan, writer, damage, render_module):
            if hasattr(module, "os"):
                monkeypatch.setattr(module, "os", self)
        make = os.mkdir
        monkeypatch.setattr(os, "mkdir", lambda path, *rest: (make(path, *rest), self._note("mkdir", str(path))))

    def _note(self, *event: Any) -> None:
        if event[0] != "mkdir" or event[1] == str(self._root):
            self.events.append(event)

    def acknowledge(self) -> None:
        """Notes that all shards there now count as committed."""
        self._note("acknowledge", frozenset(name for name in os.listdir(self._root) if name.startswith("shard-")))

    def open(self, path: Any, flags: int, *mode: int) -> int:
        descriptor = os.open(path, flags, *mode)
        self._inodes[descriptor] = os.fstat(descriptor).st_ino
        if flags & os.O_CREAT:
            self._note("name", Path(path).name, os.fstat(descriptor).st_ino)
        return descriptor

    def pwrite(self, descriptor: int, content: Any, position: int) -> int:
        written = os.pwrite(descriptor, content, position)
        self._note("write", self._inodes[descriptor], position, bytes(content[:written]))
        return written

    def posix_fallocate(self, descriptor: int, start: int, size: int) -> None:
        os.posix_fallocate(descriptor, start, size)
        self._note("write", self._inodes[descriptor], start + size, b"")

    def ftruncate(self, descriptor: int, size: int) -> None:
        assert size >= os.fstat(descriptor).st_size, "nothing that was written is cut off"
        os.ftruncate(descriptor, size)
        self._note("write", self._inodes[descriptor], size, b"")

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)
        if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
            self._note("sync", self._inodes[descriptor])
        elif os.path.samefile(f"/proc/self/fd/{descriptor}", self._root):
            self._note("sync folder")
        else:
            self._note("sync parent")

    def replace(self, old: Path, new: Path) -> None:
        inode = os.stat(old).st_ino
        os.replace(old, new)
        self._note("rename", old.name, new.name, inode)

    def link(self, old: Path, new: Path) -> None:
        os.link(old, new)
        self._note("name", new.name, os.stat(new).st_ino)

    def unlink(self, path: Any) -> None:
        os.unlink(path)
        self._note("unname", Path(path).name)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def crash_states(
    events: list[Event], chance: random.Random, per_moment: int
) -> Iterator[tuple[dict[str, bytes] | None, frozenset[str]]]:
    """(content of the folder or None where it does not exist, acknowledged shards), after each event.

    Args:
        events: of a `RecordedDisk`.
        chance: decides what of the unconfirmed is there.
        per_moment: how many states of each moment at most.
    """
    for moment in range(1, len(events) + 1):
        past = events[:moment]
        acknowledged = next((event[1] for event in reversed(past) if event[0] == "acknowledge"), frozenset())
        confirmed = max((k for k, event in enumerate(past) if event[0] == "sync folder"), default=-1)
        names = [(k, event) for k, event in enumerate(past) if event[0] in ("name", "rename", "unname")]
        open_names = [k for k, _ in names if k > confirmed]
        subsets = _subsets(open_names, chance, max(1, per_moment // 3))
        for turn in range(per_moment):
            kept = subsets[turn % len(subsets)]
            kind = ("nothing", "everything", "some")[min(turn // len(subsets), 2)]
            there = "sync parent" in {event[0] for event in past} or (kind == "everything" and "mkdir" in past[0])
            if not there:
                yield None, acknowledged
                continue
            entries: dict[str, int] = {}
            for k, event in names:
                if k <= confirmed or k in kept:
                    _apply(event, entries)
            contents = {inode: _content(past, inode, kind, chance) for inode in set(entries.values())}
            yield {name: contents[inode] for name, inode in entries.items()}, acknowledged


def _subsets(items: list[int], chance: random.Random, limit: int) -> list[frozenset[int]]:
    if 2 ** len(items) <= limit:
        return [frozenset(c) for size in range(len(items) + 1) for c in itertools.combinations(items, size)]
    drawn = [frozenset(k for k in items if chance.random() < 0.5) for _ in range(limit)]
    return [frozenset(), frozenset(items), *drawn][:limit]


def _apply(event: Event, entries: dict[str, int]) -> None:
    if event[0] == "name":
        entries[event[1]] = event[2]
    elif event[0] == "unname":
        entries.pop(event[1], None)
    else:
        entries.pop(event[1], None)
        entries[event[2]] = event[3]


def _content(past: list[Event], inode: int, kind: str, chance: random.Random) -> bytes:
    """The bytes of a file: what is confirmed, and none, all or some sectors of the rest."""
    confirmed = max((k for k, event in enumerate(past) if event == ("sync", inode)), default=-1)
    content = bytearray()
    for k, event in enumerate(past):
        if event[:2] != ("write", inode):
            continue
        position, written = event[2:]
        whole = k < confirmed or kind == "everything"
        if not whole and (kind == "nothing" or (not written and chance.random() < 0.5)):
            continue
        for start in range(0, max(len(written), 1), SECTOR):
            if whole or chance.random() < 0.5:
                piece = written[start : start + SECTOR]
                end = position + start + len(piece)
                content.extend(bytes(max(0, end - len(content))))
                content[position + start : end] = piece
    return bytes(content)
