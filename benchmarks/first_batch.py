"""How long does one wait for the first batch, on each path, in a fresh process; and for what?

Real images are 1×64×64 in memory, a quarter of a batch of 16 is synthetic. The model is the diffusion model that comes
with the package (0.45 million parameters), and the pool holds one batch of 16 of it, so that the first window is one
call of the model. Seconds by the clock, from the first line of the script, in a fresh process for each path; the files
of the libraries are in memory.

- import: torch and this package;
- load: the model, with the libraries that it needs (diffusers imports what it can find: every model that it has, and
  transformers and peft where they are installed); nothing for shards;
- open: data sets, sources, loaders; of a pool in a process, also its start: it imports and loads again there;
- first: the first batch, with the first window of a pool, or the first shard of a render.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from benchmarks.harness import publish

STAGES = ("import", "load", "open", "first")
START = """
import json, sys, time
began = time.perf_counter()
times = {}
def mark(stage):
    times[stage] = time.perf_counter() - began - sum(times.values())
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.set_num_threads(1)
FOLDER = sys.argv[1]
def real():
    return TensorDataset(torch.rand(64, 1, 64, 64), torch.arange(64) % 4)
FIELDS = ("image", "label")
"""
MODEL = """
from torchgenaug import ClassLabels, SyntheticSequence, load_synthesizer
from torchgenaug.demo import WEIGHTS
def build():
    return SyntheticSequence(load_synthesizer(WEIGHTS), ClassLabels(4))
"""
LOADED = """
mark("import")
sequence = build()
mark("load")
"""
MIXED = """
mixed = SyntheticMixLoader(DataLoader(real(), 16, shuffle=True), source, 0.25, fields=FIELDS)
mark("open")
next(iter(mixed))
mark("first")
"""
POOL = "source = SyntheticPool(sequence, 16, refresh=0, batch_size=16, background={})"
# Path -> (what every process of the path imports, what the main one does)
PATHS = {
    "real images alone (torch)": (
        "",
        """
mark("import")
loader = DataLoader(real(), 16, shuffle=True)
mark("open")
next(iter(loader))
mark("first")
""",
    ),
    "SyntheticMixDataset, shards": (
        "from torchgenaug import ShardSource, SyntheticMixDataset",
        """
mark("import")
mixed = SyntheticMixDataset(real(), ShardSource(FOLDER), 0.25, fields=FIELDS)
loader = DataLoader(mixed, 16, shuffle=True)
mark("open")
next(iter(loader))
mark("first")
""",
    ),
    "SyntheticMixLoader, shards": (
        "from torchgenaug import ShardSource, SyntheticMixLoader",
        'mark("import")\nsource = ShardSource(FOLDER)' + MIXED,
    ),
    "SyntheticMixLoader, pool in a thread": (
        "from torchgenaug import SyntheticMixLoader, SyntheticPool" + MODEL,
        LOADED + POOL.format("True") + MIXED,
    ),
    "SyntheticMixLoader, pool in a process that loads the model": (
        "from torchgenaug import SyntheticMixLoader, SyntheticPool" + MODEL,
        'mark("import")\n' + POOL.format("'process'").replace("sequence", "build", 1) + MIXED,
    ),
    "SyntheticMixLoader, pool without background": (
        "from torchgenaug import SyntheticMixLoader, SyntheticPool" + MODEL,
        LOADED + POOL.format("False") + MIXED,
    ),
    "render, to the first shard": (
        "from torchgenaug import render_shards" + MODEL,
        LOADED
        + """
render_shards(sequence, FOLDER + "/../rendered", 16, batch_size=16, progress=False, ranks=(0, 1))
mark("first")
""",
    ),
}


def one_run(imports: str, code: str, scratch: Path) -> dict[str, float]:
    """Seconds of each stage."""
    script = scratch / "script.py"  # a process of a pool imports the main script again
    body = textwrap.indent(code.strip(), "    ")
    script.write_text(f'{START}{imports}\nif __name__ == "__main__":\n{body}\n    print(json.dumps(times))\n')
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(scratch / "shards")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    shutil.rmtree(scratch / "rendered", ignore_errors=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    times: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return times


def measure(*, quick: bool = False) -> dict[str, Any]:
    import torch

    from torchgenaug import FieldSpec, FunctionSynthesizer, SyntheticSequence, render_shards, seeding

    fields = {"image": FieldSpec((1, 64, 64), value_range=(0, 1)), "label": FieldSpec((), torch.int64, kind="scalar")}

    def noise(seeds: Any, conditions: Any) -> dict[str, torch.Tensor]:
        images = torch.from_numpy(seeding.uniform(seeds, 4096)).float().reshape(-1, 1, 64, 64)
        return {"image": images, "label": torch.tensor([seed % 4 for seed in seeds])}

    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        scratch = Path(name)
        sequence = SyntheticSequence(FunctionSynthesizer(noise, fields, fingerprint="0" * 64))
        render_shards(sequence, scratch / "shards", 1024, batch_size=64, progress=False, ranks=(0, 1))
        paths = dict(list(PATHS.items())[2:3]) if quick else PATHS
        for path, (imports, code) in paths.items():
            table[path] = {f"{stage}_s": 0.0 for stage in STAGES}
            times = one_run(imports, code, scratch)
            table[path] |= {f"{stage}_s": seconds for stage, seconds in times.items()} | {"all_s": sum(times.values())}
    return publish("first_batch", table, quick=quick)


if __name__ == "__main__":
    measure()
