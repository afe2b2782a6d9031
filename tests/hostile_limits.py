"""What a refusal of a hostile folder costs: each attack in a process of its own, with its time and memory measured.

``python tests/hostile_limits.py [SHARE] [SEED]`` attacks every saved synthesizer and every golden shard folder: each
value of each JSON file is replaced by each of `VALUES` (or a random SHARE of these), each file by each of `FILES`. The
result must be a named error, or something that works, within `CPU_S` of processor time and `MAX_BYTES` of new memory.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchgenaug import DiffusersSynthesizer, ShardSource, load_synthesizer, verify_shards
from torchgenaug.errors import TorchGenAugError

HERE = Path(__file__).parent
CPU_S, MAX_BYTES = 1.0, 200 << 20
_ROOM = 2 << 30  # address space beyond what the process has: an attack must not take the machine down
_WALL_S = 60
_CLEAR_PEAK = b"5"  # for /proc/self/clear_refs, see proc(5)

VALUES: dict[str, Any] = {
    "2^20": 1 << 20,
    "10^5": 100_000,
    "10^7": 10**7,
    "2^31": 1 << 31,
    "2^63": 1 << 63,
    "10^40": 10**40,
    "-1": -1,
    "0": 0,
    "1e308": 1e308,
    "1e9": 1e9,
    "null": None,
    "true": True,
    "text": "x",
    "long text": "x" * 1_000_000,
    "path": "../../etc/passwd",
    "url": "http://127.0.0.1:9/x",
    "empty list": [],
    "long list": [64] * 100_000,
    "numbers": [1 << 20] * 4,
    "deep": [[[[[[[[[1]]]]]]]]],
    "object": {"a": 1},
}


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def a_gigabyte(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def deep(path: Path) -> None:
    path.write_bytes(b'{"a":' + b"[" * 1_000_000)


def wide(path: Path) -> None:
    path.write_bytes(b'{"a":[' + b"0," * 3_000_000 + b"0]}")


def digits(path: Path) -> None:
    path.write_bytes(b'{"a":' + b"9" * 5_000_000 + b"}")


def keys(path: Path) -> None:
    path.write_bytes(b"{" + b",".join(b'"%d":0' % k for k in range(200_000)) + b"}")


def header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 40))


def many_tensors(path: Path) -> None:
    entries = {f"t{k}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(100_000)}
    content = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content)


def huge_tensor(path: Path) -> None:
    content = json.dumps({"t": {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}}).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


FILES: list[Callable[[Path], None]] = [
    *(fifo, device, sparse, a_gigabyte, deep, wide, digits, keys, header, many_tensors, huge_tensor, empty, Path.mkdir)
]


@dataclass(frozen=True)
class Outcome:
    """How an attack ended.

    Attributes:
        what: ``"refused"``, ``"works"``, or what should not be: ``"unnamed"``, ``"killed"``.
        detail: the error.
        cpu_s: processor time.
        peak: new memory at its peak, in bytes.
    """

    what: str
    detail: str
    cpu_s: float
    peak: int

    @property
    def good(self) -> bool:
        return self.what in ("refused", "works") and self.cpu_s <= CPU_S and self.peak <= MAX_BYTES


def measured(action: Callable[[], object]) -> Outcome:
    """Runs `action` in a fork of this process, which should have loaded all modules by now."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            os.write(writing, json.dumps(_attacked(action)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        content = pipe.read()
    _, status, usage = os.wait4(child, 0)
    if not content:
        return Outcome("killed", f"status {status}", usage.ru_utime + usage.ru_stime, 0)
    return Outcome(*json.loads(content))


def _attacked(action: Callable[[], object]) -> tuple[str, str, float, int]:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_WALL_S)
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + _ROOM,) * 2)
    Path("/proc/self/clear_refs").write_bytes(_CLEAR_PEAK)
    before, began = _memory("VmRSS"), _processor_time()
    what, detail = "works", ""
    try:
        action()
    except TorchGenAugError as error:
        what, detail = "refused", str(error)
    except BaseException as error:
        what, detail = "unnamed", repr(error)
    return what, detail[:600], _processor_time() - began, _memory("VmHWM") - before


def _processor_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise LookupError(name)


@dataclass(frozen=True)
class Target:
    """A folder to attack, and what opens it.

    Attributes:
        name: of the folder.
        folder: intact.
        open: what is done with a copy.
    """

    name: str
    folder: Path
    open: Callable[[Path], object]


def plain_diffusers(folder: Path) -> object:
    (folder / "synthesizer.json").unlink(missing_ok=True)
    return DiffusersSynthesizer.from_pretrained(folder, value_range=(0, 1), steps=2)


def read_one(folder: Path) -> object:
    return ShardSource(folder).read(np.array([0]))


def targets() -> list[Target]:
    """Every saved synthesizer and shard folder of the tests, with each way to open it."""
    found = [
        Target(path.parent.name, path.parent, load_synthesizer)
        for path in sorted((HERE / "synthesizers/golden").glob("*/synthesizer.json"))
    ]
    found += [
        Target(f"{each.name}, plain", each.folder, plain_diffusers)
        for each in found
        if (each.folder / "unet").is_dir() and not (each.folder / "vae").is_dir()
    ]
    for path in sorted((HERE / "shards/golden").glob("*/manifest.json")):
        found += [
            Target(f"{path.parent.name}, {call.__name__}", path.parent, call) for call in (read_one, verify_shards)
        ]
    return found


Attack = tuple[str, Callable[[Path], None]]


def attacks(folder: Path) -> Iterator[Attack]:
    """(name, what changes a copy) of every attack on a folder."""
    for path in sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file()):
        for make in FILES:
            yield f"{path}: {make.__name__}", _replacing(path, make)
        if path.suffix == ".json":
            content = json.loads((folder / path).read_text())
            for place in _places(content):
                for name, value in VALUES.items():
                    yield f"{path}: {'.'.join(map(str, place))} = {name}", _setting(path, place, value)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key, entry in (
        value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    ):
        if "sha256" not in str(key) and path[:1] != ("files",):
            yield from _places(entry, (*path, key))


def _replacing(path: Path, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / path).unlink()
        make(folder / path)
        _reindex(folder, path)

    return change


def _setting(path: Path, place: tuple[Any, ...], value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / path).read_text())
        target = content
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = copy.deepcopy(value)
        (folder / path).write_text(json.dumps(content))
        _reindex(folder, path)

    return change


def _reindex(folder: Path, path: Path) -> None:
    """Writes the new hash of a file into the index, as whoever writes the folder would."""
    index = folder / "synthesizer.json"
    file = folder / path
    if path.name == index.name or not index.exists() or not file.is_file() or file.is_symlink():
        return
    if file.stat().st_size > 64 << 20:
        return
    content = json.loads(index.read_text())
    content["files"][str(path)] = hashlib.sha256(file.read_bytes()).hexdigest()
    index.write_text(json.dumps(content))


def attacked(target: Target, attack: Attack, scratch: Path) -> Outcome:
    """The outcome of one attack on a copy of the target."""
    place = Path(tempfile.mkdtemp(dir=scratch)) / "folder"
    try:
        shutil.copytree(target.folder, place)
        attack[1](place)
        return measured(lambda: target.open(place))
    finally:
        shutil.rmtree(place.parent)


def campaign(share: float, seed: int) -> int:
    """All attacks, or a share of them; prints what is not as it should be, and returns how many these are."""
    chance, found, bad = random.Random(seed), Counter[str](), 0
    worst_s = worst_bytes = 0.0
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as scratch:
        for target in targets():
            shutil.copytree(target.folder, warm := Path(tempfile.mkdtemp(dir=scratch)) / "warm")
            target.open(warm)
            for attack in attacks(target.folder):
                if chance.random() >= share:
                    continue
                outcome = attacked(target, attack, Path(scratch))
                found[outcome.what] += 1
                worst_s, worst_bytes = max(worst_s, outcome.cpu_s), max(worst_bytes, outcome.peak)
                if not outcome.good:
                    bad += 1
                    print(f"{target.name}; {attack[0]}: {outcome}", flush=True)
    print(f"{dict(found)}; at most {worst_s:.2f} s of CPU time and {worst_bytes / 1e6:.0f} MB; {bad} beyond the limits")
    return bad


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    arguments = [float(each) for each in sys.argv[1:]] + [1.0, 0.0][len(sys.argv) - 1 :]
    sys.exit(min(campaign(arguments[0], int(arguments[1])), 100))
