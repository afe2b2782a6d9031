"""`Covariates`: age, sex and other numbers as conditions, drawn together from real rows, or from ranges."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.conditions.shuffled_rows import shuffled_rows
from torchgenaug.conditions.streams import stream
from torchgenaug.errors import ConfigurationError
from torchgenaug.types import Batch, FieldSpec, finite_range


class Covariates:
    """Scalar conditions: rows of a real table, each used equally often, and numbers uniform in ranges.

    The columns of a row stay together, so that what belongs together (age and disease) stays together. Rows are
    gone through in a random order, then in another one: the order of `RealFields` with the same length and seed, so
    that a mask and the covariates of its subject stay together in `JointConditions`. Whole numbers stay int64, others
    become float32. Deterministic, the same on every machine, picklable, safe in workers and threads.

    Args:
        rows: name → column of numbers, all of one length: the real covariates.
        ranges: name → (low, high): float32, uniform, independent of everything else.
        seed: another seed gives another order and other numbers.

    Attributes:
        fields: one scalar per name; its range is that of the column or the one given.
        fingerprint: sha256 over columns, ranges and seed.

    Raises:
        ConfigurationError: neither rows nor ranges, columns of different lengths, values that are no finite numbers, or
            a name in both.

    Example:
        >>> made = Covariates({"age": [31.0, 64.5], "sex": [0, 1]}, ranges={"dose": (0, 2)})(range(4))
        >>> sorted(zip(made["age"].tolist(), made["sex"].tolist()))
        [(31.0, 0), (31.0, 0), (64.5, 1), (64.5, 1)]
    """

    def __init__(
        self,
        rows: Mapping[str, Sequence[float] | npt.NDArray[np.number] | Tensor] | None = None,
        *,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        seed: int = 0,
    ) -> None:
        seed = seeding.checked_seed(seed)
        self.seed = seed
        self._rows = {name: _column(name, values) for name, values in (rows or {}).items()}
        self._ranges = {name: _checked_range(name, limits) for name, limits in (ranges or {}).items()}
        if not self._rows and not self._ranges:
            raise ConfigurationError(
                "`rows` must hold at least one column, or `ranges` one range, got neither. For example "
                "Covariates({'age': ages, 'sex': sexes}) or Covariates(ranges={'age': (20, 90)})."
            )
        both = sorted(set(self._rows) & set(self._ranges))
        if both:
            raise ConfigurationError(f"`ranges` must not name columns of `rows`, got {both} in both.")
        lengths = {name: len(values) for name, values in self._rows.items()}
        if len(set(lengths.values())) > 1:
            raise ConfigurationError(f"`rows` must have columns of one length, got {lengths}. A row is one subject.")
        self._length = next(iter(lengths.values()), 0)
        self.fields: Mapping[str, FieldSpec] = {
            **{name: _spec(values) for name, values in self._rows.items()},
            **{name: FieldSpec((), kind="scalar", value_range=limits) for name, limits in self._ranges.items()},
        }
        identity = ({name: values.tolist() for name, values in self._rows.items()}, self._ranges, seed)
        self.fingerprint = hashlib.sha256(repr(("covariates 2", *identity)).encode()).hexdigest()

    def __call__(self, ids: Sequence[int]) -> Batch:
        """The covariates of samples `ids`: name → (len(ids),)."""
        numbers = np.asarray(ids, dtype=np.int64)
        batch: Batch = {}
        if self._rows:
            places = torch.from_numpy(shuffled_rows(self.seed, numbers, self._length))
            batch |= {name: values[places] for name, values in self._rows.items()}
        if self._ranges:
            seeds = seeding.derive(*stream(self.seed, *self._ranges), numbers)
            drawn = seeding.uniform(seeds, len(self._ranges))
            for column, (name, (low, high)) in enumerate(self._ranges.items()):
                values = torch.from_numpy(low + (high - low) * drawn[:, column]).float()
                batch[name] = values.clamp(low, high)  # float32 may round up beyond the range
        return batch

    def __repr__(self) -> str:
        rows = f"{self._length} rows of {list(self._rows)}" if self._rows else ""
        ranges = f"ranges={self._ranges}" if self._ranges else ""
        return f"Covariates({', '.join(part for part in (rows, ranges, f'seed={self.seed}') if part)})"


def _column(name: str, values: Sequence[float] | npt.NDArray[np.number] | Tensor) -> Tensor:
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.ndim != 1 or len(array) == 0 or array.dtype.kind not in "iufb" or not np.isfinite(array).all():
        raise ConfigurationError(
            f"`rows` must hold columns of finite numbers, got {array.dtype} of shape {array.shape} for {name!r}. Leave "
            "out rows with missing values, and number categories."
        )
    return torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))


def _checked_range(name: str, limits: tuple[float, float]) -> tuple[float, float]:
    checked = finite_range(limits)
    if checked is None:
        raise ConfigurationError(
            f"`ranges` must map names to (low, high), finite, low < high, got {name!r}: {limits!r}. For example "
            "{'age': (20, 90)}."
        )
    return checked


def _spec(values: Tensor) -> FieldSpec:
    low, high = values.min().item(), values.max().item()
    return FieldSpec((), values.dtype, kind="scalar", value_range=(low, high) if low < high else None)
