"""`Prompts`: texts as conditions, as numbers that can be stored and batched."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from torchgenaug.conditions.labels import ClassLabels
from torchgenaug.errors import ConfigurationError
from torchgenaug.types import Batch, FieldSpec

EMBEDDINGS = "prompt_embeds"


class Prompts:
    """One of a fixed list of texts for each sample: its index, and its embedding by the model's text encoder.

    A sample is made of tensors, so that shards, pools and ranks can hold it: the text itself is not among its fields
    (`texts` has it by its index), and the text encoder runs once, before, and is not needed afterwards. The texts are
    distributed in exact proportions, as the classes of `ClassLabels` are. Deterministic, picklable, safe in workers
    and threads.

    The embeddings are conditions like any other: they are stored with each sample that is rendered, 77 · 768 numbers of
    a Stable Diffusion take 231 KiB.

    Args:
        texts: the prompts.
        embeddings: (len(texts), tokens, dim), floating point: what the model's text encoder makes of them.
        weights: share of each text, any positive scale; default: all equal.
        seed: another seed deals them in another order.

    Attributes:
        fields: ``prompt``: int64 scalar, index in `texts`; ``prompt_embeds``: (tokens, dim) float32.
        fingerprint: sha256 over texts, embeddings, shares and seed.

    Raises:
        ConfigurationError: no texts, or embeddings that are not finite or of another number.

    Example:
        >>> prompts = Prompts(["axial T1, healthy", "axial T1, lesion"], torch.zeros(2, 4, 8), weights=[3, 1])
        >>> prompts(range(8))["prompt"].bincount().tolist()
        [6, 2]
    """

    def __init__(
        self, texts: Sequence[str], embeddings: Tensor, *, weights: Sequence[float] | None = None, seed: int = 0
    ) -> None:
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise ConfigurationError(f"`texts` must be a list of prompts, at least one, none empty, got {texts!r}.")
        fits = isinstance(embeddings, Tensor) and embeddings.is_floating_point() and embeddings.ndim == 3
        if not fits or len(embeddings) != len(texts) or not embeddings.isfinite().all():
            got = f"{embeddings.dtype} {tuple(embeddings.shape)}" if isinstance(embeddings, Tensor) else "no tensor"
            raise ConfigurationError(
                f"`embeddings` must be finite, floating point, ({len(texts)}, tokens, dim), got {got}. Encode the "
                "texts: text_encoder(**tokenizer(texts, padding='max_length', return_tensors='pt')).last_hidden_state."
            )
        self.texts = tuple(texts)
        self._embeddings = embeddings.detach().cpu().float().clone()
        self._labels = ClassLabels(len(texts), weights=weights, seed=seed, name="prompt")
        shape = tuple(self._embeddings.shape[1:])
        self.fields: Mapping[str, FieldSpec] = {
            **self._labels.fields,
            EMBEDDINGS: FieldSpec(shape, torch.float32, kind="scalar"),
        }
        digest = hashlib.sha256(repr(("prompts", self.texts, self._labels.fingerprint, shape)).encode())
        digest.update(np.ascontiguousarray(self._embeddings.numpy()).tobytes())
        self.fingerprint = digest.hexdigest()

    def __call__(self, ids: Sequence[int]) -> Batch:
        """``prompt`` (len(ids),) and ``prompt_embeds`` (len(ids), tokens, dim) of samples `ids`."""
        chosen = self._labels(ids)["prompt"]
        return {"prompt": chosen, EMBEDDINGS: self._embeddings[chosen]}

    def __repr__(self) -> str:
        return f"Prompts({len(self.texts)} texts, {tuple(self._embeddings.shape[1:])})"
