"""What a model saw through the one that it was made from: its teacher, or the model whose training it goes on with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torchgenaug.recipes.data.training_data import TrainingData

_WORDS = {"teacher": "teacher", "start": "model that training starts from"}


@dataclass(frozen=True)
class Ancestor:
    """A trained model that another one is made from.

    Attributes:
        role: ``"teacher"``: it is distilled; ``"start"``: its weights are trained further.
        fingerprint: of its synthesizer.
        trained_on: what it saw; None where nobody knows.
    """

    role: Literal["teacher", "start"]
    fingerprint: str
    trained_on: Mapping[str, Any] | None

    def trained_on_too(self, own: Mapping[str, Any]) -> dict[str, Any] | None:
        """What its descendant saw: its own data, and what this model saw; None where nobody knows that.

        Args:
            own: what ``trained_on`` says without an ancestor.
        """
        if self.trained_on is None:
            return None
        merged = {name: list(own[name]) for name in ("samples", "patients")}
        for name, values in merged.items():
            seen = set(values)
            values += [each for each in self.trained_on.get(name, ()) if each not in seen]
        return {**own, **merged, self.role: {"fingerprint": self.fingerprint, "data": self.trained_on.get("data")}}

    def warn_of_seen(self, held_out: TrainingData) -> None:
        """Warns of held-out samples that this model was trained on: its descendant may know what it is judged by."""
        seen = set((self.trained_on or {}).get("samples", ())) & set(held_out.ids)
        if seen:
            warnings.warn(
                f"The {_WORDS[self.role]} was trained on {len(seen)} of the {len(held_out)} held-out samples: "
                "distances and the test for copies will look too good. Give its --seed, by which its own were drawn.",
                stacklevel=3,
            )
