"""Runs the steps, each in a process group of its own that is ended at its limit, and keeps every result at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps import STEPS, TOGETHER, Step
from benchmarks.harness import metadata

ROOT = Path(__file__).parents[2]
_SPARE_S = 8.0  # to end the last step and write the last results
_SHORTEST_S = 8.0  # a step with less than that is not begun
_TAIL = 6000  # characters of a step's output in the results; all of it is in its log


@dataclass
class Session:
    """One run of the kit.

    Attributes:
        out: folder of ``results.json`` and ``log.txt``.
        device: as torch names it.
        tiny: the small version.
        minutes: after which everything has ended.
        commit: of the code, where there is no git to ask.
    """

    out: Path
    device: str
    tiny: bool
    minutes: float
    commit: str | None = None
    document: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._deadline = time.monotonic() + 60 * self.minutes
        self._lock = threading.Lock()

    def run(self, steps: Sequence[Step]) -> bool:
        """Runs the steps; whether all of them came to their end."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.document = {
            **metadata(),
            "accelerator": _accelerator(),
            "asked_device": self.device,
            "tiny": self.tiny,
            "minutes": self.minutes,
            "steps": {step.name: {"question": step.question, "state": "not begun"} for step in steps},
        }
        if self.commit:
            self.document["commit"] = self.commit
        self._write()
        together = [step for step in steps if step.name in TOGETHER]
        with ThreadPoolExecutor(max(1, len(together))) as pool:
            ended = list(pool.map(self._step, together))
        ended += [self._step(step) for step in steps if step.name not in TOGETHER]
        return all(ended)

    def _step(self, step: Step) -> bool:
        limit_s = min(step.limit_s, self._deadline - time.monotonic() - _SPARE_S)
        if limit_s < _SHORTEST_S:
            self._keep(step, {"state": "no time left"})
            return False
        self._keep(step, {"state": "running", "limit_s": round(limit_s, 1)})
        with tempfile.TemporaryDirectory() as scratch:
            result, log = Path(scratch) / "result.json", Path(scratch) / "log.txt"
            code = self._process(self._command(step, result), limit_s, log)
            found = json.loads(result.read_text()) if result.exists() else {}
            text = log.read_text(errors="replace")
        states = {0: "done", None: "ended at its limit"}
        entry = {"state": states.get(code, "failed"), "exit_code": code, "limit_s": round(limit_s, 1), **found}
        if code != 0:
            entry["output"] = text[-_TAIL:]
        self._keep(step, entry)
        with self._lock, (self.out / "log.txt").open("a") as whole:
            whole.write(f"==== {step.name}: {entry['state']}\n{text}\n")
        return code == 0

    def _command(self, step: Step, result: Path) -> list[str]:
        command = [sys.executable, "-m", "benchmarks.gpu.child", step.name, "--device", self.device]
        return [*command, "--result", str(result), *(["--tiny"] if self.tiny else [])]

    def _process(self, command: list[str], limit_s: float, log: Path) -> int | None:
        """Exit code, or None where the limit came first."""
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                return process.wait(limit_s)
            except subprocess.TimeoutExpired:
                return None
            finally:
                _end_group(process)

    def _keep(self, step: Step, entry: dict[str, Any]) -> None:
        with self._lock:
            self.document["steps"][step.name] = {"question": step.question, **entry}
            self._write()
            left = self._deadline - time.monotonic()
            print(f"[{left:5.0f} s left] {step.name}: {entry['state']} {entry.get('seconds', '')}", flush=True)

    def _write(self) -> None:
        draft = self.out / "results.draft"
        draft.write_text(json.dumps(self.document, indent=2) + "\n")
        os.replace(draft, self.out / "results.json")


def chosen(only: Sequence[str], skip: Sequence[str]) -> list[Step]:
    """The steps of `only` (where it is empty: all but those that must be named) without those of `skip`.

    Raises:
        ValueError: an unknown name.
    """
    names = [step.name for step in STEPS]
    unknown = sorted({*only, *skip} - set(names))
    if unknown:
        raise ValueError(f"Steps must be among {names}, got {unknown}.")
    wanted = [step for step in STEPS if (step.name in only if only else not step.only_if_named)]
    return [step for step in wanted if step.name not in skip]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all that it started, at once: a step that hangs in the driver heeds no other signal."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _accelerator() -> dict[str, Any]:
    """Name, memory and driver, asked in another process: this one must not take memory on the device."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.sm", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"absent": str(error)}
    return {"nvidia-smi": lines}
