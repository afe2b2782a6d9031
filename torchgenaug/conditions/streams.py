"""Which random stream a field of conditions has: parts of `JointConditions` with equal seeds do not move together."""

from __future__ import annotations

import hashlib

from torchgenaug import seeding


def stream(seed: int, *names: str) -> tuple[int, ...]:
    """Leading keys of `torchgenaug.seeding.derive` for the fields `names`; ``label`` alone has the plain stream."""
    if names == ("label",):
        return seed, seeding.CONDITION
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return seed, seeding.CONDITION, int.from_bytes(digest[:8], "little")
