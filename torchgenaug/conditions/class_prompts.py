"""`ClassPrompts`: the prompt of the class that another condition has drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from torchgenaug.conditions.prompts import EMBEDDINGS, Prompts
from torchgenaug.contracts import Conditions
from torchgenaug.errors import ConfigurationError
from torchgenaug.types import Batch, FieldSpec


class ClassPrompts:
    """Other conditions, and for each sample the prompt of its class: a real parent and the text that fits it.

    So image-to-image models vary each real image under the prompt of its own class, as DA-Fusion does; two independent
    conditions (`JointConditions`) would pair a healthy parent with the prompt of a lesion. Deterministic, and as
    picklable and safe in workers as `conditions`.

    Args:
        conditions: conditions with a class label among their fields, such as ``RealFields(data, ["source", "label"])``.
        texts: the prompt of each class: ``texts[label]``.
        embeddings: (len(texts), tokens, dim), floating point, as for `Prompts`.
        label: the field of the class label.

    Attributes:
        fields: those of `conditions`, and those of `Prompts`: ``prompt``, the class, and ``prompt_embeds``.
        fingerprint: sha256 over those of `conditions`, texts and embeddings.

    Raises:
        ConfigurationError: no such label; or, when it is read, a label without a text.

    References:
        Trabucco et al. (2024). Effective data augmentation with diffusion models. ICLR (DA-Fusion).

    Example:
        >>> import torch
        >>> from torchgenaug.conditions import ClassLabels
        >>> batch = ClassPrompts(ClassLabels(2), ["healthy", "lesion"], torch.zeros(2, 4, 8))(range(6))
        >>> bool((batch["prompt"] == batch["label"]).all())
        True
    """

    def __init__(
        self, conditions: Conditions, texts: Sequence[str], embeddings: Tensor, *, label: str = "label"
    ) -> None:
        prompts = Prompts(texts, embeddings)
        fields: Mapping[str, FieldSpec] = getattr(conditions, "fields", {})
        if label not in fields or fields[label].shape:
            raise ConfigurationError(
                f"`conditions` must have the class label {label!r}, a scalar, got the fields {sorted(fields)}. Take it "
                f"from the real samples: RealFields(dataset, ['source', {label!r}])."
            )
        if set(prompts.fields) & set(fields):
            raise ConfigurationError(
                f"`conditions` must have no prompts of their own, got the fields {sorted(fields)}. Each sample has one "
                "prompt: that of its class."
            )
        self.conditions, self.texts, self._label = conditions, prompts.texts, label
        self._embeddings = embeddings.detach().cpu().float().clone()
        self.fields: Mapping[str, FieldSpec] = {**fields, **prompts.fields}
        parts = ("class prompts", conditions.fingerprint, prompts.fingerprint, label)
        self.fingerprint = hashlib.sha256(repr(parts).encode()).hexdigest()

    def __call__(self, ids: Sequence[int]) -> Batch:
        """The conditions of samples `ids`, each with the prompt of its class."""
        batch = dict(self.conditions(ids))
        classes = batch[self._label].long()
        outside = np.flatnonzero((classes < 0) | (classes >= len(self.texts)))
        if len(outside):
            raise ConfigurationError(
                f"`texts` must have a prompt for each class, got {len(self.texts)} prompts and class "
                f"{int(classes[outside[0]])} at id {ids[outside[0]]}. Add the missing prompts, in the order of classes."
            )
        return {**batch, "prompt": classes, EMBEDDINGS: self._embeddings[classes]}

    def __repr__(self) -> str:
        return f"ClassPrompts({self.conditions!r}, {len(self.texts)} texts)"
