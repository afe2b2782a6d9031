"""What a batch looks like: where its fields lie in a tensor, tuple, list, NamedTuple, dict or TorchIO batch.

A `BatchLayout` is read off the first batch of a loader, and puts other tensors into the same structure.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.mixing.loader.batch_metadata import DATA, is_image, select_metadata
from torchgenaug.samples.layout import Container, SampleLayout
from torchgenaug.seeding import Int64Array


@dataclass(frozen=True)
class BatchLayout:
    """How fields sit in the batches of one loader.

    Args:
        container: what kind of object a batch is.
        names: the fields that are handed out, in order.
        restricted: whether `names` leaves out fields that the batches have.
        chosen: whether the user named the fields; synthetic samples may then have others, too.
    """

    container: Container
    names: tuple[str, ...]
    restricted: bool = False
    chosen: bool = False

    @classmethod
    def of(cls, batch: Any, fields: Sequence[str] | None = None) -> BatchLayout:
        """The layout of a batch; `fields` names the positions of a tuple or list, or the fields of a dict to hand out.

        Raises:
            ConfigurationError: positions without names, names that do not fit, or an unsupported type.
        """
        layout = SampleLayout.of(batch, fields)
        if layout.crops or (layout.container == "tensor" and not isinstance(batch, Tensor)):
            got = f"a {type(batch).__name__}" + (" of dicts" if layout.crops else "")
            raise ConfigurationError(
                f"Batches must be tensors, or tuples, lists and dicts of tensors, got {got}. Let the loader's "
                "collate_fn make tensors: torch.utils.data.default_collate, or MONAI's list_data_collate for lists of "
                "crops."
            )
        return cls(layout.container, layout.names, layout.restricted, fields is not None)

    def tensors(self, batch: Any) -> list[Tensor]:
        """The tensors of the fields, in the order of `names`, all with the same number of rows.

        Raises:
            FieldMismatchError: a field that is no tensor, or has a different number of rows.
        """
        values = [value[DATA] if is_image(value) else value for value in self._values(batch)]
        size = values[0].shape[0] if isinstance(values[0], Tensor) and values[0].ndim else None
        for name, value in zip(self.names, values, strict=True):
            if not isinstance(value, Tensor) or not value.ndim or value.shape[0] != size:
                what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise FieldMismatchError(
                    f"Every field of a batch must be a tensor with one row per sample, got {what} for {name!r}. Name "
                    "only such fields in `fields`, or let the loader's collate_fn make tensors."
                )
        return values

    def items(self, batch: Any) -> list[tuple[str, Any]]:
        """(name, value) of the fields of a batch."""
        return list(zip(self.names, self._values(batch), strict=True))

    def build(self, like: Any, tensors: Sequence[Tensor], rows: Int64Array | None = None, added: int = 0) -> Any:
        """A batch of the type of `like` with these tensors.

        Args:
            like: a batch of this layout.
            tensors: one per field.
            rows: which rows of `like` the first ones of `tensors` are (None: all); what TorchIO and MONAI say about an
                image next to its tensor is taken from there.
            added: how many rows of `tensors` follow that are not in `like`: they get the affine of its first row, and
                no path.
        """
        values = [
            select_metadata(old, part, rows, added) for old, part in zip(self._values(like), tensors, strict=True)
        ]
        if self.container == "tensor":
            return values[0]
        if self.container in ("dict", "subject"):
            named = dict(zip(self.names, values, strict=True))
            if type(like) is dict or self.restricted:
                return named
            other = copy.copy(like)
            other.update(named)
            return other
        if self.container == "namedtuple":
            return type(like)(*values)
        return tuple(values) if self.container == "tuple" else values

    def restrict(self, batch: Any) -> Any:
        """The batch with only the fields that are handed out; the very object where that is all of them."""
        return {name: batch[name] for name in self.names} if self.restricted else batch

    def _values(self, batch: Any) -> list[Any]:
        if self.container == "tensor":
            return [batch]
        if self.container in ("dict", "subject"):
            return [batch[name] for name in self.names]
        return list(batch)


def raise_mismatch(problems: Sequence[str], common: tuple[str, ...]) -> None:
    """Raises `FieldMismatchError` where there are problems."""
    if problems:
        raise FieldMismatchError(
            "Synthetic samples must have the fields, shapes and dtypes of the real batches. Differences:\n  - "
            + "\n  - ".join(problems)
            + f"\nLeave out the fields that only one side has: fields={common!r} (of tuples, name every position); or "
            "convert with `synthetic_transform` or `real_transform`, functions batch -> batch."
        )
