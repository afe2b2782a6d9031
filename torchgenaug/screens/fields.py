"""Which fields of a batch a screen looks at."""

from __future__ import annotations

from collections.abc import Sequence

from torchgenaug.errors import ConfigurationError
from torchgenaug.types import Batch


def chosen_images(batch: Batch, names: Sequence[str] | None) -> list[str]:
    """The fields to judge: `names`, or all floating-point fields of shape (batch, channels, *spatial).

    Raises:
        ConfigurationError: one of `names` is not in the batch, or has no spatial axes.
    """
    if names is None:
        return [name for name, value in batch.items() if value.is_floating_point() and value.ndim > 2]
    for name in names:
        if name not in batch or batch[name].ndim < 3:
            got = "absent" if name not in batch else f"of shape {tuple(batch[name].shape)}"
            raise ConfigurationError(
                f"`fields` of a screen must name fields of shape (batch, channels, *spatial), got {name!r}, which is "
                f"{got}. The batch holds {sorted(batch)}."
            )
    return list(names)
