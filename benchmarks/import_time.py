"""How long does ``import torchgenaug``, with its core classes, take against ``import torch``?"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from benchmarks.harness import interleaved, publish, ratios

CODE = {
    "import torch": "import torch",
    "import torchgenaug": "import torchgenaug",
    "its core classes": "from torchgenaug import SyntheticMixDataset, SyntheticPool, SyntheticSequence, ShardSource",
    "import torch, torch.utils.data": "import torch, torch.utils.data",
}


def measure(*, quick: bool = False) -> dict[str, Any]:
    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    contestants = {name: (lambda c=code: run(c)) for name, code in CODE.items()}
    timings = interleaved(contestants, rounds=1 if quick else 9)
    return publish("import_time", ratios(timings, "import torch"), quick=quick)


if __name__ == "__main__":
    measure()
