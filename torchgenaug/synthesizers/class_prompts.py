"""`ClassPromptSynthesizer`: a model on prompts, sampled by classes: each class has its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from torchgenaug.contracts import Stored, Synthesizer, device_of
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.checks import check_seeds, checked_labels
from torchgenaug.synthesizers.parts.fingerprints import settings_digest
from torchgenaug.types import Batch, FieldSpec

_PROMPT = "prompt_embeds"


class ClassPromptSynthesizer:
    """Samples a model that is conditioned on ``prompt_embeds`` with the prompt of a class, or with one prompt for all.

    Deterministic, and picklable if the model is.

    Args:
        model: a synthesizer on ``prompt_embeds`` alone, such as `StableDiffusionSynthesizer` in mode "text".
        texts: the prompt of each class, kept with the model.
        embeddings: (len(texts), tokens, dim) floating point, from `encode_prompts`.
        classes: whether the condition ``label`` chooses the prompt; False with one text: there are no conditions.
        grey: make one channel of the model's three, their mean: for grey images and a model of colour images.

    Attributes:
        fields: those of `model`; with `grey`, ``image`` has one channel.
        num_classes: labels lie in [0, num_classes); None without classes.

    Raises:
        ConfigurationError: other texts than embeddings, or a model with other conditions.
    """

    family: ClassVar[str] = "class_prompts"

    def __init__(
        self, model: Synthesizer, texts: Sequence[str], embeddings: Tensor, *, classes: bool = True, grey: bool = False
    ) -> None:
        wanted = set(getattr(model, "condition_fields", {}))
        if wanted != {_PROMPT}:
            raise ConfigurationError(
                f"`model` must be conditioned on {_PROMPT!r} alone, got {type(model).__name__} with {sorted(wanted)}. "
                "For other conditions use ClassPrompts with the model itself."
            )
        fits = isinstance(embeddings, Tensor) and embeddings.is_floating_point() and embeddings.ndim == 3
        if not texts or not fits or len(embeddings) != len(texts) or (len(texts) > 1 and not classes):
            raise ConfigurationError(
                f"`embeddings` must be (texts, tokens, dim), floating point, one for each class, got "
                f"{tuple(getattr(embeddings, 'shape', ()))} for {len(texts)} texts with classes={classes}. Make them "
                "with encode_prompts(folder, texts)."
            )
        self.model, self.texts, self.classes, self.grey = model, tuple(texts), bool(classes), bool(grey)
        self.embeddings = embeddings.detach().cpu().float().clone()
        self.trained_on: Mapping[str, Any] | None = getattr(model, "trained_on", None)
        image = model.fields["image"]
        made = FieldSpec((1, *image.shape[1:]), value_range=image.value_range) if grey else image
        self.fields: Mapping[str, FieldSpec] = {**model.fields, "image": made}

    @property
    def device(self) -> torch.device:
        """Where samples are made."""
        return device_of(self.model)

    @property
    def num_classes(self) -> int | None:
        """Labels lie in [0, num_classes); None without classes."""
        return len(self.texts) if self.classes else None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the model, the texts and their embeddings."""
        content = {"family": self.family, "model": self.model.fingerprint, **self._settings()}
        return settings_digest({**content, "embeddings": self.embeddings.tolist()})

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One sample per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: ``label``, int64 (batch,), with classes.

        Raises:
            ConfigurationError: no seeds, or labels that are missing, surplus or out of range.
        """
        check_seeds(seeds)
        labels = checked_labels(conditions, len(seeds), self.num_classes)
        chosen = torch.zeros(len(seeds), dtype=torch.int64) if labels is None else labels.cpu()
        batch = dict(self.model.synthesize(seeds, {_PROMPT: self.embeddings[chosen]}))
        if self.grey:
            batch["image"] = batch["image"].mean(1, keepdim=True)
        return batch

    def stored(self) -> Stored:
        """What `save_synthesizer` writes."""
        return Stored(self._settings(), tensors={"embeddings": self.embeddings}, parts={"model": self.model})

    @classmethod
    def from_stored(cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None) -> ClassPromptSynthesizer:
        """The synthesizer that `stored` described; its model is on the device already."""
        settings = stored.settings
        return cls(
            stored.parts["model"],
            settings["texts"],
            stored.tensors["embeddings"],
            classes=settings["classes"],
            grey=settings["grey"],
        )

    def _settings(self) -> dict[str, Any]:
        return {"texts": list(self.texts), "classes": self.classes, "grey": self.grey}

    def __repr__(self) -> str:
        return f"ClassPromptSynthesizer({self.model!r}, {len(self.texts)} texts)"
