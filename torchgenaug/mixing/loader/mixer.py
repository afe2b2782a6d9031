"""`BatchMixer`: joins real and synthetic rows in one batch of the loader's own structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.contracts import ReadsInto, SyntheticSource
from torchgenaug.errors import ConfigurationError
from torchgenaug.mixing.loader.batch_memory import BatchMemory
from torchgenaug.mixing.loader.batch_metadata import bare
from torchgenaug.mixing.loader.batch_transforms import BatchTransforms, Key
from torchgenaug.mixing.loader.batches import BatchLayout, raise_mismatch
from torchgenaug.mixing.loader.row_conversion import RowConversion
from torchgenaug.mixing.provenance import attach_to_one, fingerprints, selection
from torchgenaug.samples.intensity import warn_if_intensities_differ
from torchgenaug.samples.layout import MEMBER, PARENT, SampleLayout
from torchgenaug.seeding import Int64Array
from torchgenaug.sources.positions import index_tensor
from torchgenaug.types import Batch

_PROBED = 4  # rows of either kind that are compared at the first batch


class BatchMixer:
    """Mixes batches of one layout.

    Args:
        layout: layout of the loader's batches.
        source: the synthetic samples.
        transforms: what is done to them.
        provenance: whether each batch says where its samples come from.

    Raises:
        ConfigurationError: provenance for batches that have no place for it.
    """

    def __init__(
        self, layout: BatchLayout, source: SyntheticSource, transforms: BatchTransforms, *, provenance: bool
    ) -> None:
        if provenance and layout.container == "namedtuple":
            raise ConfigurationError(
                "`provenance` cannot be added to a NamedTuple, whose fields are fixed. Let the loader's collate_fn "
                "return a dict, or ask `is_synthetic` of the mix."
            )
        self.layout, self.source, self.transforms, self.provenance = layout, source, transforms, provenance
        self._convert = RowConversion(layout.names, source.fields)
        # Shape and dtype of the fields that the source can write into a batch, all or none of them.
        self._written: list[tuple[tuple[int, ...], torch.dtype]] = []
        if isinstance(source, ReadsInto) and set(layout.names) <= set(source.fields):
            self._written = [(source.fields[name].shape, source.fields[name].dtype) for name in layout.names]

    def mix(
        self,
        raw: Any,
        real: Sequence[Tensor],
        rows: Int64Array | None,
        positions: Int64Array,
        key: Key,
        memory: BatchMemory,
    ) -> Any:
        """One batch.

        Args:
            raw: the batch as the loader handed it out.
            real: its fields, on the device of the mix.
            rows: which of its rows are kept, ascending; None: all.
            positions: where the synthetic samples are read.
            key: what the random numbers of its transforms depend on.
            memory: where it may lie.
        """
        layout, added, device = self.layout, len(positions), real[0].device
        read: Batch = {}
        if self.transforms.of_sides:
            read = self.source.read(positions) if added else read
            mixed = self._sides(raw, real, rows, read, added, key)
        elif added and self._fits(real):
            joined, read = self._written_beside(real, rows, positions, memory)
            mixed = layout.build(raw, joined, rows, added)
        elif added:
            read = self.source.read(positions)
            mixed = layout.build(raw, self._joined(real, rows, read, added, memory), rows, added)
        elif all(mine is theirs for mine, theirs in zip(real, layout.tensors(raw), strict=True)):
            mixed = layout.restrict(raw)
        else:
            mixed = layout.build(raw, real)
        mixed = self.transforms.apply(seeding.TRANSFORM, mixed, key, device)
        if self.provenance:
            kept = len(real[0]) if rows is None else len(rows)
            mixed = attach_to_one(mixed, layout.container, self._origins(kept, positions, read, device))
        return mixed

    def probe(self, raw: Any, real: Sequence[Tensor], key: Key) -> None:
        """Compares a few rows of either kind, their transforms included.

        Raises:
            FieldMismatchError: they do not fit; all differences are listed.

        Warns:
            IntensityMismatchWarning: images differ grossly in brightness.
        """
        layout, fields = self.layout, self.source.fields
        if not self.transforms.of_sides:
            self._convert.check(layout, raw)
        missing = [name for name in layout.names if name not in fields]
        raise_mismatch([f"missing {name!r}: the real batches have it" for name in missing], layout.names)
        rows, few = np.arange(min(_PROBED, len(real[0]))), min(_PROBED, len(self.source))
        both = layout.tensors(self._sides(raw, real, rows, self.source.read(np.arange(few)), few, key))
        for name, tensor in zip(layout.names, both, strict=True):
            if fields[name].kind == "intensity":
                samples = [{name: row} for row in bare(tensor).cpu()]
                one = SampleLayout.of(samples[0])
                warn_if_intensities_differ(samples[: len(rows)], samples[len(rows) :], one, name)

    def _fits(self, real: Sequence[Tensor]) -> bool:
        """Whether the source can write its samples into the same batch; if not, `_joined` converts them, or refuses."""
        for tensor, (shape, dtype) in zip(real, self._written, strict=False):
            row = tensor.shape[1:]
            if tensor.dtype != dtype or (row != shape and (len(row) != 4 or row != (*shape, 1))):
                return False
        return len(self._written) == len(real)

    def _written_beside(
        self, real: Sequence[Tensor], rows: Int64Array | None, positions: Int64Array, memory: BatchMemory
    ) -> tuple[list[Tensor], Batch]:
        """What `_joined` makes, with each row copied only once; and what was read."""
        added, kept = len(positions), len(real[0]) if rows is None else len(rows)
        index = None if rows is None else _index(rows, real[0])
        joined: list[Tensor] = []
        read: Batch = {}
        for field, (name, tensor) in enumerate(zip(self.layout.names, real, strict=True)):
            whole, head, tail = memory.place(field, tensor, kept, added)
            shape = self._written[field][0]
            if index is None:
                head.copy_(bare(tensor))
            else:
                torch.index_select(bare(tensor), 0, index, out=head)
            read[name] = tail if tail.ndim == len(shape) + 1 else tail.view(added, *shape)
            joined.append(whole)
        for name in (PARENT, MEMBER):
            if self.provenance and name in self.source.fields:
                read[name] = torch.empty(added, dtype=self.source.fields[name].dtype)
        self.source.read_into(positions, read)  # type: ignore[attr-defined]
        return joined, read

    def _joined(
        self,
        real: Sequence[Tensor],
        rows: Int64Array | None,
        read: Mapping[str, Tensor],
        added: int,
        memory: BatchMemory,
    ) -> list[Tensor]:
        """The kept rows of the real tensors, and the synthetic ones after them: one new tensor per field."""
        synthetic = self._convert(real, [read[name] for name in self.layout.names])
        index = None if rows is None else _index(rows, real[0])
        kept = len(real[0]) if rows is None else len(rows)
        joined = []
        for field, (tensor, made) in enumerate(zip(real, synthetic, strict=True)):
            whole, head, tail = memory.place(field, tensor, kept, added)
            if index is None:
                head.copy_(bare(tensor))
            else:
                torch.index_select(bare(tensor), 0, index, out=head)
            tail.copy_(bare(made), non_blocking=True)
            joined.append(whole)
        return joined

    def _sides(
        self,
        raw: Any,
        real: Sequence[Tensor],
        rows: Int64Array | None,
        read: Mapping[str, Tensor],
        added: int,
        key: Key,
    ) -> Any:
        """The same with the transforms of real and of synthetic rows before, each on a batch of its own."""
        layout, device, keep = self.layout, real[0].device, None
        if rows is not None and not len(rows):  # one all the same: it shows what the synthetic ones must look like
            rows, keep = np.zeros(1, np.int64), rows
        taken = [bare(part) if rows is None else bare(part)[_index(rows, part)] for part in real]
        batch = layout.build(raw, taken, rows)
        kept = self.transforms.apply(seeding.REAL_TRANSFORM, batch, key, device)
        if not added:
            return kept
        made = [read[name].to(device) for name in layout.names]
        if not self.transforms.synthetic:
            made = self._convert(layout.tensors(kept), made)
        batch = layout.build(raw, made, np.zeros(0, np.int64), added)
        changed = layout.tensors(self.transforms.apply(seeding.SYNTHETIC_TRANSFORM, batch, key, device))
        changed_by_name = dict(zip(layout.names, changed, strict=True))
        joined = self._joined(layout.tensors(kept), keep, changed_by_name, added, BatchMemory())
        return layout.build(kept, joined, keep, added)

    def _origins(
        self, kept: int, positions: Int64Array, read: Mapping[str, Tensor], device: torch.device
    ) -> dict[str, Any]:
        source, added = self.source, len(positions)
        nobody = np.full(kept, -1)
        said = {name: read[name].cpu().numpy() if name in read else np.full(added, -1) for name in (PARENT, MEMBER)}
        ids, seeds = (source.ids(positions), source.seeds(positions).tolist()) if added else (positions, [])
        chosen = {
            name: torch.from_numpy(np.concatenate([np.full(kept, np.nan), values])).to(device)
            for name, values in selection(source, positions).items()
        }
        return {
            **chosen,
            "is_synthetic": torch.arange(kept + added, device=device) >= kept,
            "id": torch.from_numpy(np.concatenate([nobody, ids])).to(device),
            "seed": [""] * kept + [f"{seed:016x}" for seed in seeds],
            **{name: torch.from_numpy(np.concatenate([nobody, who])).to(device) for name, who in said.items()},
            "fingerprint": [""] * kept + (fingerprints(source, positions) if added else []),
        }


def _index(rows: Int64Array, like: Tensor) -> Tensor:
    """Numbers of rows, where `like` lies."""
    return index_tensor(rows, like.device)
