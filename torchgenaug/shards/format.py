"""The manifest of a shard folder: what is rendered, from what, and under which frozen plan (format 1)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchgenaug.checksums import fits_checksum
from torchgenaug.errors import ConfigurationError, ShardCorruptError, ShardVersionError
from torchgenaug.shards.storage import StoredField

FORMAT, FORMAT_VERSION = "torchgenaug-shards", 1
MANIFEST_NAME = "manifest.json"
RESERVED_NAMES = ("id", "seed", "checksum")
COMPRESSIONS = ("lz4", "zstd", "gzip")
FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]{0,63}", re.ASCII)

_SHARD_NAME = re.compile(r"shard-([0-9]{5,9})\.([0-9a-f]{64})\.h5", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_COUNT = 1 << 48
_MAX_VALUES = 1_000_000
MAX_SAMPLE_BYTES = 4 << 30
"""A few bytes of a sparse or compressed file can claim to be a sample of any size: larger ones only on request."""
MAX_SHARDS = 10_000_000
"""More files than any folder should hold; a plan of more would also take long merely to be looked through."""


def shard_name(index: int, digest: str) -> str:
    """File name of shard `index` whose content has the sha256 `digest` (64 hexadecimal digits)."""
    return f"shard-{index:05d}.{digest}.h5"


def parse_shard_name(name: str) -> tuple[int, str] | None:
    """(index, digest) of a shard's file name, or None if it is none."""
    match = _SHARD_NAME.fullmatch(name)
    if match is None or f"{int(match[1]):05d}" != match[1]:
        return None
    return int(match[1]), match[2]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a shard folder holds. Written before the first sample; the plan is never changed after.

    Attributes:
        fields: field name → spec and form on disk.
        count: number of samples, ids 0 to count - 1.
        shard_size: samples per shard; the last shard holds the rest. A multiple of `batch_size`.
        batch_size: the frozen batch plan: ids [k·batch_size, (k+1)·batch_size) are made in one call, cut off at
            `count`.
        seed: base seed of the sequence.
        sequence: fingerprint of the sequence.
        synthesizer: fingerprint of its synthesizer.
        conditions: fingerprint of its conditions, or None.
        compression: None (contiguous), or ``"lz4"``, ``"zstd"``, ``"gzip"`` (one sample per chunk, byte shuffle).
        versions: library → version that rendered, or None if absent.
        num_threads: torch's thread count, which decides the last bits of a sample.
        device: type of the device that the synthesizer ran on.
        trained_on: what the synthesizer says about its training data (any JSON value), or None if unknown.
        filter: what a filter kept of the finished render, see `record_filter`; None: there was none. It is no part of
            the plan.
    """

    fields: Mapping[str, StoredField]
    count: int
    shard_size: int
    batch_size: int
    seed: int
    sequence: str
    synthesizer: str
    conditions: str | None
    compression: str | None
    versions: Mapping[str, str | None]
    num_threads: int
    device: str
    trained_on: Any
    filter: Mapping[str, Any] | None = None

    @property
    def num_shards(self) -> int:
        """How many shards the whole plan has."""
        return -(-self.count // self.shard_size)

    @property
    def render_id(self) -> str:
        """sha256 over the plan without `count`: stands in every shard, so that one of another render is recognised."""
        content = {key: value for key, value in self.to_json().items() if key not in ("count", "filter")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def shard_range(self, index: int) -> range:
        """The ids of shard `index`."""
        return range(index * self.shard_size, min((index + 1) * self.shard_size, self.count))

    def row_bytes(self) -> int:
        """Bytes of one sample in an uncompressed shard: its fields, id, seed and checksums."""
        return sum(field.row_bytes for field in self.fields.values()) + 16 + 8 * len(self.fields)

    def most_bytes(self) -> int:
        """More bytes than the file of a shard can have: what does not compress is stored as it is."""
        rows = min(self.shard_size, self.count)
        return rows * (self.row_bytes() + 256 * len(self.fields)) + (1 << 20) * len(self.fields)

    def decoded_bytes(self) -> int:
        """Bytes of one sample as the synthesizer returns it."""
        return sum(math.prod(field.spec.shape) * field.spec.dtype.itemsize for field in self.fields.values())

    def sample_bytes(self) -> int:
        """Bytes that one sample takes in memory while it is read: its fields, stored and decoded."""
        return sum(
            field.row_bytes + (0 if field.exact else math.prod(field.spec.shape) * field.spec.dtype.itemsize)
            for field in self.fields.values()
        )

    def check_sample_bytes(self, limit: int, folder: Path) -> None:
        """Raises `ConfigurationError` if one sample takes more than `limit` bytes, see `sample_bytes`."""
        needed = self.sample_bytes()
        if needed > limit:
            raise ConfigurationError(
                f"`max_sample_bytes` must be at least {needed:,} for the samples of {folder}, got {limit:,}. Nothing "
                f"was read. If the folder is trusted: ShardSource(..., max_sample_bytes={needed}), and verify_shards "
                "likewise."
            )

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["fields"] = {name: field.to_json() for name, field in self.fields.items()}
        values["versions"] = dict(self.versions)
        if values["filter"] is None:
            del values["filter"]
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **values}

    def to_bytes(self) -> bytes:
        """The content of ``manifest.json``."""
        return json.dumps(self.to_json(), indent=2, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str = MANIFEST_NAME) -> Manifest:
        """The manifest that `to_bytes` wrote.

        Args:
            content: of the file.
            where: its path, for messages.

        Raises:
            ShardVersionError: written in a newer format.
            ShardCorruptError: anything else that `to_bytes` never writes.
        """
        try:
            if content.count(b",") > _MAX_VALUES:
                raise ValueError(f"it holds more than {_MAX_VALUES:,} values")
            # `json` would take UTF-16 and UTF-32, too.
            values = json.loads(
                content.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
            )
            json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair is no text
            if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
                raise ValueError(f'it does not say "format": "{FORMAT}"')
            version = values.pop("format_version", None)
            if type(version) is not int or version < 1:
                raise ValueError(f"format_version must be a positive integer, got {version!r}")
            if version > FORMAT_VERSION:
                raise ShardVersionError(
                    f"{where} is of format {version}; this version of torchgenaug reads format {FORMAT_VERSION}. "
                    "Upgrade with: pip install --upgrade torchgenaug"
                )
            return cls(**_checked(values))
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
            raise ShardCorruptError(
                f"{where} must be a manifest of format {FORMAT_VERSION}: {error}. It was damaged or written by "
                "something else. Nothing was read. Restore it, or render into a new folder."
            ) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; two readers would disagree about one that says a thing twice."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("it has a key twice")
    return values


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is out of range")
    return number


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with the fields parsed; ValueError, KeyError or TypeError unless each is what a renderer writes."""
    expected = {field.name for field in dataclasses.fields(Manifest)} - {"filter"}
    if set(values) - {"filter"} != expected:
        raise ValueError(
            f"missing keys {sorted(expected - set(values))}, unknown keys {sorted(set(values) - expected - {'filter'})}"
        )
    limits = {
        "count": (1, _MAX_COUNT),
        "shard_size": (1, _MAX_COUNT),
        "batch_size": (1, _MAX_COUNT),
        "seed": (0, (1 << 63) - 1),
        "num_threads": (1, 1 << 20),
    }
    for name, (low, high) in limits.items():
        if type(values[name]) is not int or not low <= values[name] <= high:
            raise ValueError(f"{name} must be an integer in [{low}, {high}], got {values[name]!r}")
    if values["shard_size"] % values["batch_size"]:
        raise ValueError(f"shard_size {values['shard_size']} must be a multiple of batch_size {values['batch_size']}")
    if -(-values["count"] // values["shard_size"]) > MAX_SHARDS:
        raise ValueError(
            f"count {values['count']} in shards of {values['shard_size']} are more than {MAX_SHARDS} files"
        )
    for name in ("sequence", "synthesizer", "conditions"):
        missing = name == "conditions" and values[name] is None
        if not missing and not (isinstance(values[name], str) and _SHA256.fullmatch(values[name])):
            raise ValueError(f"{name} must be a sha256 in hexadecimal, got {values[name]!r}")
    if values["compression"] not in (None, *COMPRESSIONS):
        raise ValueError(f"compression must be None or one of {COMPRESSIONS}, got {values['compression']!r}")
    if not isinstance(values.get("filter", {}), dict):
        raise ValueError("filter must be an object")
    if not fits_checksum(values.get("filter", {})):
        raise ValueError("the entries of filter do not fit their sha256")
    if not isinstance(values["device"], str) or not isinstance(values["versions"], dict):
        raise ValueError("device must be a string, versions an object")
    if not all(version is None or isinstance(version, str) for version in values["versions"].values()):
        raise ValueError("versions must be strings")
    if not isinstance(values["fields"], dict) or not 1 <= len(values["fields"]) <= 1024:
        raise ValueError("fields must be an object with at least one field")
    for name in values["fields"]:
        if not FIELD_NAME.fullmatch(name) or name in RESERVED_NAMES:
            raise ValueError(f"field name {name!r} is not allowed")
    return {**values, "fields": {name: StoredField.from_json(entry) for name, entry in values["fields"].items()}}
