"""What must work where only the wheel and its core dependencies are installed; run in an empty folder, by path."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import torchgenaug

ABSENT = ("monai", "pythae", "matplotlib", "nilearn", "hdf5plugin", "lightning", "pytest", "torchvision")


def command(*arguments: str) -> str:
    """What the installed command prints."""
    program = Path(sys.executable).with_name("torchgenaug")
    done = subprocess.run(  # noqa: S603 (a program of this package)
        [str(program), *arguments], check=True, capture_output=True, text=True, timeout=240
    )
    return done.stdout


def main() -> None:
    """Renders, checks and mixes samples of the model in the package."""
    from torch.utils.data import DataLoader, TensorDataset

    from torchgenaug import ShardSource, SyntheticMixDataset, SyntheticPool, SyntheticSequence, load_synthesizer
    from torchgenaug.conditions import ClassLabels
    from torchgenaug.demo import WEIGHTS

    found = [name for name in ABSENT if util.find_spec(name)]
    assert not found, f"optional packages are installed: {found}"
    assert "site-packages" in torchgenaug.__file__, torchgenaug.__file__
    assert torchgenaug.__version__ == metadata.version("torchgenaug")
    assert Path(torchgenaug.__file__).with_name("py.typed").exists()
    assert "render" in command("--help")
    command("render", str(WEIGHTS), "--out", "shards", "--count", "8", "--batch-size", "4", "--shard-size", "4")
    command("verify", "shards")
    command("inspect", "shards")
    source = ShardSource("shards")
    assert next(iter(DataLoader(source, batch_size=4)))["image"].shape == (4, 1, 64, 64)
    real = TensorDataset(source[0]["image"].expand(8, 1, 64, 64).clone())
    with SyntheticPool(SyntheticSequence(load_synthesizer(WEIGHTS), ClassLabels(4)), capacity=4, batch_size=4) as pool:
        for synthetic in (source, pool):
            mixed = SyntheticMixDataset(real, synthetic, ratio=0.5, fields=("image",))
            assert mixed.counts().synthetic == 4
            assert len(list(DataLoader(mixed, batch_size=4))) == 2
    print(f"torchgenaug {torchgenaug.__version__} works with its core dependencies only")


if __name__ == "__main__":
    main()
