"""What a model saw through the one that it was made from: its teacher, or the model whose training it goes on with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torchgenaug.pseudonyms import anonymous, is_among, is_pseudonym
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
        theirs = {name: list(map(str, self.trained_on.get(name, ()))) for name in merged}
        hides = any(map(is_pseudonym, merged["samples"]))
        data = self.trained_on.get("data")
        if hides:  # the descendant's data are anonymous: so is all that is written of it
            theirs = {name: list(map(anonymous, values)) for name, values in theirs.items()}
            data = None if data is None else anonymous(str(data))
        for name, values in merged.items():
            known = is_among(values, theirs[name])
            seen = {*values, *(anonymous(each) for each, both in zip(values, known, strict=True) if both)}
            values += [each for each in theirs[name] if each not in seen]
        return {**own, **merged, self.role: {"fingerprint": self.fingerprint, "data": data}}

    def warn_of_seen(self, held_out: TrainingData) -> None:
        """Warns of held-out samples that this model was trained on: its descendant may know what it is judged by."""
        seen = sum(is_among(held_out.ids, set(map(str, (self.trained_on or {}).get("samples", ())))))
        if seen:
            warnings.warn(
                f"The {_WORDS[self.role]} was trained on {seen} of the {len(held_out)} held-out samples: "
                "distances and the test for copies will look too good. Give its --seed, by which its own were drawn.",
                stacklevel=3,
            )
