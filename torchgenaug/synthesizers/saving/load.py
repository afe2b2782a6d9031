"""Loads saved synthesizers, from folders that may come from anywhere."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from torchgenaug.checksums import fits_checksum
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.local_paths import folder_of
from torchgenaug.synthesizers.diffusion.layouts import pipeline_home
from torchgenaug.synthesizers.parts import storable
from torchgenaug.synthesizers.parts.building import Construction
from torchgenaug.synthesizers.parts.model_files import MAX_JSON_BYTES, parse_json, read_file
from torchgenaug.synthesizers.parts.verified_files import VerifiedFiles
from torchgenaug.synthesizers.saving.folder import FORMAT, INDEX, READY, VERSION, layout_of

_ATTEMPTS = 5
_loaded: WeakValueDictionary[tuple[str, ...], Any] = WeakValueDictionary()
_lock = threading.Lock()


def load_synthesizer(
    path: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    *,
    sha256: str | None = None,
    trust_code: bool = False,
) -> Any:
    """The synthesizer that `save_synthesizer` wrote, loaded once per process, path, device and dtype.

    A second call returns the same object while anyone still holds it. Safe in threads; no global random state moves.
    Nothing is fetched, unpickled or executed, unless `trust_code` is set: see ``docs/trust-boundary.md``.

    Args:
        path: the folder.
        device: where to compute; default: CPU.
        dtype: compute dtype; default: the saved one.
        sha256: of the folder's ``synthesizer.json``, which holds the sha256 of every other file: what
            `synthesizer_sha256`, ``torchgenaug fit`` and ``torchgenaug inspect`` print. Kept elsewhere, it proves that
            the whole folder is still the one that was saved. None: the folder is compared with itself only.
        trust_code: import and call network classes that the folder names, whatever they do: those of your own package
            (``build_network("mypackage.models:Generator", …)``), and classes of libraries that are not known to be
            safe. False: such folders are refused.

    Returns:
        The synthesizer, of the class that was saved.

    Raises:
        SynthesizerLoadError: not such a folder, another one than `sha256`, written by a newer torchgenaug, a file whose
            sha256 is not the recorded one, or one that asks for code, devices or sizes that no model has.
    """
    folder = folder_of(path, ("synthesizer.json",)).resolve()
    place = torch.device("cpu") if device is None else torch.device(device)
    for _ in range(_ATTEMPTS):
        before = _stamps(folder)
        try:
            return _load(folder, place, dtype, sha256, trust_code)
        except SynthesizerLoadError:
            # A training run may have replaced the synthesizer between two of its files.
            if _stamps(folder) == before:
                raise
    return _load(folder, place, dtype, sha256, trust_code)


def _load(folder: Path, place: torch.device, dtype: torch.dtype | None, sha256: str | None, trust_code: bool) -> Any:
    home = _newest(folder)
    content = _read_index(home)
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and sha256.lower() != digest:
        raise SynthesizerLoadError(
            f"{folder / INDEX} must have the sha256 that was given, {sha256!r}, got {digest}. It is another "
            "synthesizer, or the folder was changed; nothing of it was used. Fetch it again."
        )
    # What is parsed is what was hashed: the index is read once, and so is every file that it names.
    index = _checked_index(parse_json(content, folder / INDEX), str(folder / INDEX))
    key = (str(folder), str(place), str(dtype), digest, str(trust_code))
    with _lock:
        synthesizer = _loaded.get(key)
        if synthesizer is None:
            contents = VerifiedFiles(home, index["files"])
            synthesizer = _loaded[key] = _assembled(index, contents, str(folder), place, dtype, trust_code)
    # Last: where an entry is not allowed, the error says which, rather than that some entry was changed.
    if sha256 is None and not fits_checksum(index):
        raise SynthesizerLoadError(
            f"{folder / INDEX} must hold the entries of its own sha256, got others. It was damaged, or edited; nothing "
            "of it was used. Fetch or save the synthesizer again; if you edited it on purpose, remove its entry "
            '"sha256".'
        )
    return synthesizer


def synthesizer_sha256(path: str | Path) -> str:
    """The sha256 that pins a saved synthesizer from outside, for ``load_synthesizer(path, sha256=…)``.

    It is that of ``synthesizer.json``, which in turn holds the sha256 of every other file.

    Raises:
        SynthesizerLoadError: no such folder.
    """
    return hashlib.sha256(_read_index(_newest(Path(path)))).hexdigest()


def _newest(folder: Path) -> Path:
    """Where the newest whole synthesizer of the folder is: see `rewrite_synthesizer`."""
    ready = folder / READY
    return ready if (ready / INDEX).exists() else folder


def _stamps(folder: Path) -> list[tuple[int, int] | None]:
    """Changes whenever a training run replaces the synthesizer in the folder."""
    stamps: list[tuple[int, int] | None] = []
    for path in (folder / INDEX, folder / READY):
        try:
            about = path.stat()
            stamps.append((about.st_ino, about.st_mtime_ns))
        except OSError:
            stamps.append(None)
    return stamps


def _assembled(
    index: Mapping[str, Any],
    contents: VerifiedFiles,
    place: str,
    device: torch.device,
    dtype: torch.dtype | None,
    trust_code: bool,
) -> Any:
    try:
        parts = {
            name: _part(contents.within(name), f"{place}/parts/{name}", device, dtype, trust_code)
            for name in index.get("parts", ())
        }
        family, own = index["family"], contents.without_parts()
        made_of = layout_of(family).decode(index, own, parts, place, trust_code=trust_code)
        # Constructors probe networks of which some draw at once; torch's global state is the training run's.
        with Construction():
            synthesizer = storable.family_class(family).from_stored(made_of, device=device, dtype=dtype)
    except (SynthesizerLoadError, ConfigurationError, ImportError):
        raise
    except Exception as error:
        raise SynthesizerLoadError(
            f"{place} must hold weights that fit its configuration, got {error!r}. Save the synthesizer again."
        ) from error
    synthesizer.trained_on = index.get("trained_on")
    return synthesizer


def _part(
    contents: VerifiedFiles, place: str, device: torch.device, dtype: torch.dtype | None, trust_code: bool
) -> Any:
    if INDEX not in contents:
        raise SynthesizerLoadError(f"{place} must hold {INDEX}, got {sorted(contents)}. Save the synthesizer again.")
    index = _checked_index(parse_json(contents[INDEX], f"{place}/{INDEX}"), f"{place}/{INDEX}")
    if set(index["files"]) != set(contents) - {INDEX}:
        raise SynthesizerLoadError(f"{place} must hold the files of its {INDEX}. Save the synthesizer again.")
    return _assembled(index, contents.without(INDEX), place, device, dtype, trust_code)


def _read_index(folder: Path) -> bytes:
    """The content of ``synthesizer.json``."""
    path = folder / INDEX
    if not path.exists():
        remedy = "Check the path, or write such a folder with save_synthesizer(synthesizer, path)."
        if (folder / "unet").is_dir() or (folder / "model_index.json").is_file():
            remedy = (
                "This is a plain diffusers folder; it does not say what the intensities are. Load it with "
                f"{pipeline_home(folder)}.from_pretrained({str(folder)!r}, value_range=(0, 1))."
            )
        raise SynthesizerLoadError(f"`path` must be a folder with {INDEX}, got {str(folder)!r} without it. {remedy}")
    return read_file(path, MAX_JSON_BYTES)


def _checked_index(index: dict[str, Any], place: str) -> dict[str, Any]:
    version = index.get("version")
    if index.get("format") != FORMAT or not isinstance(version, int):
        raise SynthesizerLoadError(
            f"{place} must have the format {FORMAT!r} and a version, got {index.get('format')!r}, {version!r}. "
            "Save the synthesizer again."
        )
    if version > VERSION:
        raise SynthesizerLoadError(
            f"{place} must have version {VERSION} or older, got {version}. It was written by a newer torchgenaug. "
            "Upgrade: pip install -U torchgenaug"
        )
    family = index.get("family")
    storable.check_family(family, place)
    layout_of(str(family)).check_files(index.get("files"), index.get("parts", []), place)
    return index
