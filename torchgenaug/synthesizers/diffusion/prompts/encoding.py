"""`encode_prompts`: texts to embeddings, with the tokenizer and text encoder that a pipeline was saved with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, MissingExtraError, SynthesizerLoadError
from torchgenaug.synthesizers.parts.model_files import read_json


def encode_prompts(
    folder: str | Path, texts: Sequence[str], *, device: torch.device | str | None = None, batch_size: int = 32
) -> Tensor:
    """What `Prompts` and ``negative_prompt_embeds`` take: the last hidden state of the pipeline's CLIP text encoder.

    The same as the ``encode_prompt`` of diffusers' Stable Diffusion pipelines (without ``clip_skip``), but a text that
    is too long is refused, not cut. Needs the package transformers; the embeddings do not, once made.

    Args:
        folder: a Stable Diffusion folder with ``tokenizer/`` (CLIP) and ``text_encoder/`` (CLIP, safetensors).
        texts: prompts; the empty text is the usual negative one.
        device: where to encode; default: CPU.
        batch_size: texts encoded at once.

    Returns:
        (len(texts), tokens, dim) float32 on the CPU.

    Raises:
        MissingExtraError: transformers is not installed.
        SynthesizerLoadError: no such parts, another class, or pickled weights.
        ConfigurationError: no texts, or one with more tokens than the encoder reads.
    """
    if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
        raise ConfigurationError(f"`texts` must be a list of prompts, at least one, got {texts!r}.")
    tokenizer, encoder = _loaded(Path(folder))
    encoder = encoder.to(device or "cpu", torch.float32).eval()
    longest = tokenizer.model_max_length
    for number, ids in enumerate(tokenizer(list(texts))["input_ids"]):
        if len(ids) > longest:
            raise ConfigurationError(
                f"`texts` must have at most {longest} tokens each, start and end included, got {len(ids)} at {number}: "
                f"{texts[number][:60]!r}. The rest would be cut off. Shorten it."
            )
    parts = []
    with torch.no_grad():
        for start in range(0, len(texts), batch_size):
            tokens = tokenizer(
                list(texts[start : start + batch_size]),
                padding="max_length",
                max_length=longest,
                return_tensors="pt",
            )
            masked = getattr(encoder.config, "use_attention_mask", False)
            mask = tokens["attention_mask"].to(encoder.device) if masked else None
            parts.append(encoder(tokens["input_ids"].to(encoder.device), attention_mask=mask)[0].float().cpu())
    return torch.cat(parts)


def _loaded(folder: Path) -> tuple[Any, Any]:
    for name in ("tokenizer", "text_encoder"):
        if not (folder / name).is_dir():
            raise SynthesizerLoadError(
                f"`folder` must hold tokenizer/ and text_encoder/, got {folder} without {name}/. Encode the prompts "
                "elsewhere and pass their embeddings to Prompts."
            )
    try:
        from transformers import CLIPTextModel, CLIPTokenizer  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MissingExtraError(
            "Encoding prompts needs the package `transformers`, which is not installed. "
            "Install it with: pip install transformers"
        ) from error
    names = read_json(folder / "text_encoder" / "config.json").get("architectures")
    if names not in (["CLIPTextModel"], ["CLIPTextModelWithProjection"]):
        raise SynthesizerLoadError(
            f"`folder` must hold a CLIPTextModel in text_encoder/, got {names} in {folder}. Encode the prompts "
            "with it yourself and pass their embeddings to Prompts."
        )
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True, use_safetensors=True)
    except Exception as error:
        raise SynthesizerLoadError(
            f"`folder` must hold a CLIP tokenizer and text encoder (safetensors), got {error!r} from {folder}. Save "
            "them again with save_pretrained."
        ) from error
    return tokenizer, encoder
