"""`Counterfactuals`: real images, each with a class that it does not have."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from torchgenaug import seeding
from torchgenaug.conditions.real import PARENT, RealFields
from torchgenaug.errors import ConfigurationError
from torchgenaug.types import Batch, FieldSpec

_OTHER = 3  # purpose of the seeds of classes


class Counterfactuals:
    """What a real image would look like with another class: conditions of ``countersynth``, or of a diffusion edit.

    Every image is used equally often, and every other class with the same probability::

        model = load_synthesizer("countersynth")  # or DiffusionEditSynthesizer(ddpm, marks=0, strength=0.5)
        sequence = SyntheticSequence(model, Counterfactuals(real, num_classes=4))

    Deterministic, a function of (seed, id); as picklable and as safe in workers as the data set.

    Args:
        dataset: map-style data set of images with classes; it must return the same sample each time.
        num_classes: classes of the model, at least two.
        image: field of the image, (channels, *spatial) floating point.
        label: field of its class, an integer.
        fields: names of the positions of tuple samples.
        seed: another seed gives other orders and classes.

    Attributes:
        fields: ``source``: the image; ``label``: int64, the class that it is to have; ``parent``: index in `dataset`.
        fingerprint: sha256 over that of the images and the settings.

    Raises:
        ConfigurationError: fields that do not fit; when a sample is read: a class outside of [0, num_classes).

    Example:
        >>> real = [{"image": torch.zeros(1, 4, 4), "label": k % 3} for k in range(6)]
        >>> batch = Counterfactuals(real, num_classes=3)(range(6))
        >>> bool((batch["label"] == batch["parent"] % 3).any())
        False
    """

    def __init__(
        self,
        dataset: Any,
        num_classes: int,
        *,
        image: str = "image",
        label: str = "label",
        fields: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
            raise ConfigurationError(
                f"`num_classes` must be an integer of at least 2, got {num_classes!r}. With one there is no other."
            )
        self._real = RealFields(dataset, (image, label), fields=fields, seed=seed)
        self.image, self.label, self.num_classes, self.seed = image, label, num_classes, seeding.checked_seed(seed)
        spec = self._real.fields[label]
        if spec.dtype.is_floating_point or int(np.prod(spec.shape)) != 1:
            raise ConfigurationError(f"`label` must be a field of one integer per sample, got {spec} for {label!r}.")
        self.fields: Mapping[str, FieldSpec] = {
            "source": self._real.fields[image],
            "label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, num_classes - 1)),
            PARENT: self._real.fields[PARENT],
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over that of the images and the settings."""
        known = repr(("counterfactuals", self._real.fingerprint, self.num_classes, self.seed))
        return hashlib.sha256(known.encode()).hexdigest()

    def __call__(self, ids: Sequence[int]) -> Batch:
        """Images, the classes that they are to have, and parents of samples `ids`."""
        real = self._real(ids)
        own = real[self.label].reshape(len(ids)).to(torch.int64)
        wrong = (own < 0) | (own >= self.num_classes)
        if bool(wrong.any()):
            place = int(wrong.nonzero()[0, 0])
            raise ConfigurationError(
                f"`dataset` must hold classes in [0, {self.num_classes}), got {int(own[place])} at index "
                f"{int(real[PARENT][place])}. Give the number of classes of the model, or map the classes to its own."
            )
        keys = seeding.derive(self.seed, seeding.CONDITION, _OTHER, np.asarray(ids, dtype=np.int64))
        steps = torch.from_numpy((keys % np.uint64(self.num_classes - 1)).astype(np.int64)) + 1
        return {"source": real[self.image], "label": (own + steps) % self.num_classes, PARENT: real[PARENT]}

    def __repr__(self) -> str:
        return f"Counterfactuals({self._real!r}, num_classes={self.num_classes}, seed={self.seed})"
