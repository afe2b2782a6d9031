"""State dicts from files, without executing anything in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import Tensor, nn

from torchgenaug.errors import SynthesizerLoadError
from torchgenaug.synthesizers.parts.model_files import check_file, read_pickle


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in blocks.

    Raises:
        SynthesizerLoadError: no regular file at `path`.
    """
    if not path.is_file():
        raise SynthesizerLoadError(f"`path` must be a file of weights, got {str(path)!r}, which is none.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, sha256: str | None) -> None:
    """Refuses a file of another hash; None accepts any.

    Raises:
        SynthesizerLoadError: another hash, or no regular file.
    """
    found = file_sha256(path)
    if sha256 is not None and found != sha256.lower():
        raise SynthesizerLoadError(
            f"`path` must have sha256 {sha256}, got {found} at {path.name!r}. The weights are others than the ones "
            "meant, and their results could not be compared. Fetch the file again, or pass its hash if it is right."
        )


def checked_state_dict(path: str | Path, network: nn.Module, *, sha256: str | None = None) -> dict[str, Tensor]:
    """The weights in a ``.safetensors`` file or a ``torch.save`` state dict, if they fit `network`.

    Raises:
        SynthesizerLoadError: no such file, another hash, not loadable without unpickling code, or other names or
            shapes.
    """
    path, expected = Path(path), network.state_dict()
    if not path.is_file():
        check_sha256(path, sha256)  # raises
    # Before anything is hashed: a file of holes has any size, and takes that long.
    check_file(path, (1 << 20) + sum(4 * value.nbytes + 1024 for value in expected.values()))
    check_sha256(path, sha256)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = read_pickle(path, "Save the state_dict alone.")
    except Exception as error:
        raise SynthesizerLoadError(
            f"`path` must hold weights alone, got {path.name!r}, which cannot be read as such "
            f"({type(error).__name__}). Save them again with safetensors.torch.save_file(network.state_dict(), path)."
        ) from error
    differing = sorted(
        key
        for key in expected.keys() | (state.keys() if isinstance(state, dict) else set())
        if key not in expected or key not in state or getattr(state[key], "shape", None) != expected[key].shape
    )
    if differing:
        raise SynthesizerLoadError(
            f"`path` must hold exactly the weights of {type(network).__name__}, got {len(differing)} other names or "
            f"shapes at {path.name!r}, for example {differing[0]!r}. Build the network with the arguments it was saved "
            "with."
        )
    return dict(state)
