"""`VerifiedFiles`: the files of a folder, each compared with its recorded sha256 before anything of it is used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from torchgenaug.errors import SynthesizerLoadError
from torchgenaug.synthesizers.parts.model_files import MAX_JSON_BYTES, check_file, free_memory, read_file, tensor_shapes

_SMALL = 16 << 20  # bytes: read and compared at once, so that a damaged file is called damaged


class VerifiedFiles(Mapping[str, bytes]):
    """File name → content, read on demand: the bytes that were compared are the bytes that are used.

    Args:
        folder: where the files are.
        digests: file name → sha256.
        prefix: which part of the folder this is: "" or "parts/NAME/".
    """

    def __init__(self, folder: Path, digests: Mapping[str, str], prefix: str = "") -> None:
        self._folder, self._prefix = folder, prefix
        self._digests = {
            name.removeprefix(prefix): digest for name, digest in digests.items() if name.startswith(prefix)
        }

    def __getitem__(self, name: str) -> bytes:
        digest, path = self._digests[name], self._folder / (self._prefix + name)
        content = read_file(path, MAX_JSON_BYTES if name.endswith(".json") else free_memory())
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise SynthesizerLoadError(
                f"{path} must have sha256 {digest}, got {found}. The file was damaged or exchanged; nothing of it was "
                "used. Fetch or save the synthesizer again."
            )
        return content

    def __iter__(self) -> Iterator[str]:
        return iter(self._digests)

    def __len__(self) -> int:
        return len(self._digests)

    def within(self, part: str) -> VerifiedFiles:
        """The files under ``parts/PART/``."""
        digests = {self._prefix + name: digest for name, digest in self._digests.items()}
        return VerifiedFiles(self._folder, digests, f"{self._prefix}parts/{part}/")

    def without_parts(self) -> VerifiedFiles:
        """The files that are not under ``parts/``."""
        digests = {
            self._prefix + name: digest for name, digest in self._digests.items() if not name.startswith("parts/")
        }
        return VerifiedFiles(self._folder, digests, self._prefix)

    def without(self, name: str) -> VerifiedFiles:
        """All files but this one."""
        digests = {self._prefix + each: digest for each, digest in self._digests.items() if each != name}
        return VerifiedFiles(self._folder, digests, self._prefix)

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """Tensor name → shape of a safetensors file, from its header: before memory for the tensors is taken.

        Raises:
            SynthesizerLoadError: damaged, or no safetensors file.
        """
        path = self._folder / (self._prefix + name)
        if check_file(path) <= _SMALL:
            _ = self[name]  # raises if it is damaged
        return tensor_shapes(path)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of a safetensors file, on the CPU."""
        from safetensors.torch import load

        return load(self[name])
