"""Processes that render together, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

from tests import clean_interpreter, interpreter

CHILD = """
import os, signal, sys, time, torch
torch.set_num_threads(1)
from torchgenaug import ClassLabels, SyntheticSequence, render_shards, verify_shards
from torchgenaug.testing import AnalyticSynthesizer

options = eval(sys.argv[1])
rank = int(os.environ["RANK"])

class Model(AnalyticSynthesizer):
    calls = 0

    def synthesize(self, seeds, conditions=None):
        self.calls += 1
        if self.calls == options["fails_at"]:
            raise RuntimeError("the model broke")
        if self.calls == 4 and rank == options["kill_rank"]:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(options["pause"])
        return super().synthesize(seeds, conditions)

sequence = SyntheticSequence(Model((8, 8), num_classes=3), ClassLabels(3), seed=5)
if options["gloo"]:
    torch.distributed.init_process_group("gloo")
print("ready", flush=True)
source = render_shards(sequence, options["path"], options["count"], batch_size=2, shard_size=4, progress=False,
                       resume=options["resume"])
if options["check"]:
    assert verify_shards(options["path"]).ok
total = source.read(range(len(source)))["image"].double().sum().item()
print(f"rank {rank} sees {len(source)} samples: {total!r}", flush=True)
if options["gloo"]:
    torch.distributed.destroy_process_group()
"""


def _options(path, count, **given):
    defaults = {"fails_at": 0, "kill_rank": None, "pause": 0.0, "gloo": False, "resume": True, "check": False}
    return repr({**defaults, "path": str(path), "count": count, **given})


def _without_ranks() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}


def start_rank(
    path: Path, rank: int, world_size: int, count: int, *, forked: bool = True, **options: object
) -> subprocess.Popen[str]:
    """One rank, as a launcher on another machine would start it; the ranks of one folder are one job.

    Where the ranks are looked for in ``/proc``, or take their time to load, they must not be `forked` from here.
    """
    environment = _without_ranks() | {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_PORT": str(zlib.crc32(str(path).encode())),
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    program = ["-c", CHILD, _options(path, count, **options)]
    if forked:
        return interpreter.start(program, env=environment, **pipes)
    return subprocess.Popen([sys.executable, *program], env=environment, text=True, **pipes)


def launch(
    path: Path, processes: int, count: int, *, launcher: str = "torchrun", **options: object
) -> subprocess.Popen[str]:
    """``torchrun`` or ``accelerate launch``, with a gloo group."""
    script = path.parent / "render_job.py"
    script.write_text(CHILD)
    if launcher == "torchrun":
        command = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    else:
        # With --cpu accelerate starts one process only. With --multi_gpu it starts them all; they need not use a GPU.
        command = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
        command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        command += ["--main_process_port", "0"]
    return clean_interpreter.start(
        ["-m", *command, script, _options(path, count, gloo=True, **options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_without_ranks(),
    )


def stop_all(children: list[subprocess.Popen[str]]) -> None:
    for child in children:
        child.kill()
        child.communicate()
