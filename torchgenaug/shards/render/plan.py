"""The frozen plan of a render: made from the arguments, laid down once, compared on every resume."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import operator
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from torchgenaug.bare_names import without_places
from torchgenaug.contracts import device_of, trained_on_of
from torchgenaug.errors import ConfigurationError, ShardCorruptError, ShardError, ShardMismatchError
from torchgenaug.local_paths import make_folder
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.shards.folder import MAX_MANIFEST_BYTES, list_shards, read_manifest
from torchgenaug.shards.format import COMPRESSIONS, FIELD_NAME, MANIFEST_NAME, RESERVED_NAMES, Manifest
from torchgenaug.shards.remote import redacted
from torchgenaug.shards.storage import INTENSITY_DTYPES, StoredField
from torchgenaug.shards.temporary import TemporaryFile, sync_folder

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # two letters at least: C:/ is a disk
_LIBRARIES = ("torch", "torchgenaug", "numpy", "h5py", "hdf5plugin", "diffusers", "monai")


def refuse_url(path: str | os.PathLike[str]) -> None:
    """Raises `ConfigurationError` if `path` is not a local path."""
    if "\0" in os.fspath(path):
        raise ConfigurationError(f"`path` must be a folder, got {os.fspath(path)!r}. Nothing was rendered.")
    if _URL.match(os.fspath(path)):
        raise ConfigurationError(
            f"`path` must be a folder of this machine, got {redacted(os.fspath(path))!r}. Nothing was rendered: a "
            "commit needs renames and fsync, which object storage does not have. Render to a local folder and copy it "
            "there; ShardSource reads URLs."
        )


def plan_render(
    sequence: SyntheticSequence,
    count: int,
    *,
    batch_size: int,
    shard_size: int,
    compression: str | None,
    dtype: str | None,
) -> Manifest:
    """The manifest of a render; `torchgenaug.shards.render.render.render_shards` explains the arguments.

    Raises:
        ConfigurationError: an argument outside its domain, or a field that shards cannot hold.
    """
    count, batch_size, shard_size = (
        _whole(name, value)
        for name, value in (("count", count), ("batch_size", batch_size), ("shard_size", shard_size))
    )
    if compression not in (None, *COMPRESSIONS):
        raise ConfigurationError(f"`compression` must be None or one of {COMPRESSIONS}, got {compression!r}.")
    if dtype not in (None, *INTENSITY_DTYPES):
        raise ConfigurationError(f"`dtype` must be None or one of {INTENSITY_DTYPES}, got {dtype!r}.")
    for name in sequence.fields:
        if not FIELD_NAME.fullmatch(name) or name in RESERVED_NAMES:
            raise ConfigurationError(
                f"A field's name must be letters, digits, '_' or '-' and none of {RESERVED_NAMES}, got {name!r}: it "
                "names a data set of the shard. Let the synthesizer return it under another name."
            )
    synthesizer = sequence.synthesizer
    return Manifest(
        fields={name: StoredField.plan(name, spec, dtype) for name, spec in sequence.fields.items()},
        count=count,
        shard_size=-(-shard_size // batch_size) * batch_size,
        batch_size=batch_size,
        seed=sequence.seed,
        sequence=sequence.fingerprint,
        synthesizer=synthesizer.fingerprint,
        conditions=None if sequence.conditions is None else sequence.conditions.fingerprint,
        compression=compression,
        versions={name: _version(name) for name in _LIBRARIES},
        num_threads=torch.get_num_threads(),
        device=device_of(synthesizer).type,
        trained_on=without_places(_json_value(trained_on_of(synthesizer))),
    )


def _whole(name: str, value: object) -> int:
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 1:
        raise ConfigurationError(f"`{name}` must be an integer of at least 1, got {value!r}. Nothing was rendered.")
    return number


def _readable(manifest: Manifest) -> bytes:
    """The content of the manifest, if it is one that can be read again: nothing else may replace what is there."""
    content = manifest.to_bytes()
    try:
        if len(content) > MAX_MANIFEST_BYTES:
            raise ShardCorruptError(f"it has {len(content):,} bytes, and {MAX_MANIFEST_BYTES:,} are read.")
        Manifest.from_bytes(content, where="The manifest of this render")
    except ShardCorruptError as error:
        raise ConfigurationError(
            f"`count`, `shard_size`, `batch_size` and the synthesizer's `trained_on` must make a manifest that can be "
            f"read again, got one that cannot: {error} Nothing was rendered or changed."
        ) from error
    return content


def lay_down(manifest: Manifest, folder: Path, *, resume: bool | Literal["verify", "extend"]) -> Manifest:
    """Makes the folder hold this manifest, or refuses.

    Returns:
        The manifest that lies there: `manifest`, or the same with the thread count of the first run, which the render
        must then take. (A count of threads is what launchers change on their own: torchrun sets it to 1.)

    Raises:
        ConfigurationError: the folder is not empty and `resume` is False, or holds something else than shards.
        ShardMismatchError: the folder was planned differently; every difference is listed.
    """
    make_folder(folder, "path")
    there = os.listdir(folder)
    if MANIFEST_NAME not in there:
        others = [name for name in there if not name.startswith(".")]
        if others:
            raise ConfigurationError(
                f"`path` must be an empty or new folder, or one with a render to resume, got {str(folder)!r}, which "
                f"holds {len(others)} other entries such as {sorted(others)[0]!r}. Nothing was written. Give another "
                "folder."
            )
        content = _readable(manifest)
        sync_folder(folder.parent)
        temporary = TemporaryFile(folder)
        try:
            temporary.write(content)
            temporary.commit(MANIFEST_NAME, exclusive=True)
        finally:
            temporary.discard()
    elif resume is False:
        raise ConfigurationError(
            f"`path` must be an empty or new folder with resume=False, got {str(folder)!r}, which holds a render. "
            "Nothing was written. Give another folder, or resume=True to go on with it."
        )
    elif resume == "extend":
        _extend(manifest, folder)
    return adopt_plan(manifest, folder)


def _extend(manifest: Manifest, folder: Path) -> None:
    """Lets the plan of a folder go on to the count of `manifest`, if it differs in nothing else."""
    was = read_manifest(folder)
    longer = dataclasses.replace(manifest, num_threads=was.num_threads)
    if was.count >= longer.count:
        return  # refused later, unless it is equal: then this was done before
    _compare(dataclasses.replace(was, count=longer.count), longer, folder)
    # Without what a filter found, which has not seen the new samples.
    content = _readable(dataclasses.replace(was, count=longer.count, filter=None))
    if was.compression is None:
        check_room(folder, (longer.count - was.count) * was.row_bytes(), f"{longer.count - was.count:,} more samples")
    # A last shard that is not full is made anew, so that the result is that of one render. It goes first: without it
    # the folder is an unfinished render under either plan, and the same command goes on from there.
    last = was.num_shards - 1
    if longer.shard_range(last) != was.shard_range(last):
        for name in list_shards(folder).get(last, []):
            (folder / name).unlink(missing_ok=True)
        sync_folder(folder)
    temporary = TemporaryFile(folder)
    try:
        temporary.write(content)
        temporary.commit(MANIFEST_NAME)
    finally:
        temporary.discard()


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raises `ShardError` where the disk of `folder` has no room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ShardError(
            f"The disk of {str(folder)!r} must have {needed:,} bytes free for {what}, got {free:,}. "
            "Nothing was rendered. Free some space, or store less: dtype='float16', dtype='uint8', compression='lz4'."
        )


def adopt_plan(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest that lies in the folder, if it is this one but for the thread count.

    Raises:
        ShardMismatchError: the folder was planned differently; every difference is listed.
    """
    was = read_manifest(folder)  # what counts is what lies there: another process may have been faster
    _compare(was, dataclasses.replace(manifest, num_threads=was.num_threads), folder)
    return was


def _compare(was: Manifest, now: Manifest, folder: Path) -> None:
    before, after = (_flat(dataclasses.replace(each, filter=None).to_json()) for each in (was, now))
    differences = [
        f"  {key}: was {before.get(key)!r}, now {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    if not differences:
        return
    hints = []
    if was.count != now.count:
        hints.append("A larger count is added to a render with resume='extend', on the command line --extend.")
    raise ShardMismatchError(
        f"`path` must hold a render of the same plan to be resumed, got {str(folder)!r}, which differs:\n"
        + "\n".join(differences)
        + "\nNothing was written: its shards would not fit together. "
        + " ".join([*hints, "Render with the old settings to go on, or into a new folder."])
    )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        flat |= _flat(entry, f"{prefix}.{key}" if prefix else key)
    return flat


@functools.cache  # to parse what is written about a package takes milliseconds
def _version(package: str) -> str | None:
    # The installed version, loaded or not: whether a lazy import has happened yet must not change the plan.
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _plain(value: Any) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _json_value(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False, default=_plain))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"`trained_on` of a synthesizer must be a JSON value (text, list, dict, …), got {value!r}: {error}. "
            "It says in the manifest what the model was trained on."
        ) from error
