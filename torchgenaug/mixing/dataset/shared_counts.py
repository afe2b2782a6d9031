"""`SharedCounts`: the decided numbers of synthetic samples in shared memory, the same for all workers."""

from __future__ import annotations

import torch

from torchgenaug.mixing.dataset.shared import shared
from torchgenaug.plan.decided_counts import MOST_EPOCHS, DecidedCounts


class SharedCounts(DecidedCounts):
    """Decided in one process, seen in all. Sent to a worker it stays shared; plain pickle copies."""

    def __init__(self) -> None:
        self._tensor: torch.Tensor = shared(torch.full((MOST_EPOCHS,), -1, dtype=torch.int64))
        super().__init__(self._tensor.numpy())

    def __getstate__(self) -> torch.Tensor:  # type: ignore[override]
        return self._tensor

    def __setstate__(self, state: torch.Tensor) -> None:  # type: ignore[override]
        self._tensor = shared(state)
        super().__init__(self._tensor.numpy())
