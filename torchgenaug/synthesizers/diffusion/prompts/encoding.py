"""`encode_prompts`: texts to embeddings, with the tokenizer and text encoder that a pipeline was saved with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, MissingExtraError, SynthesizerLoadError
from torchgenaug.synthesizers.parts.building import check_numbers
from torchgenaug.synthesizers.parts.model_files import MAX_JSON_BYTES, check_file, read_json, tensor_shapes

_MOST_TOKENS = 1 << 16  # CLIP reads 77; where none is stated transformers takes 10^30


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
            _check_tokens(tokens["input_ids"], encoder, folder)
            mask = tokens["attention_mask"].to(encoder.device) if masked else None
            try:
                states = encoder(tokens["input_ids"].to(encoder.device), attention_mask=mask)[0]
            except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
                raise SynthesizerLoadError(
                    f"{folder} must hold a text encoder that runs, got {error!r:.300}. Check its config.json, or lower "
                    "`batch_size` if it is memory that is missing."
                ) from error
            parts.append(states.float().cpu())
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
    shapes = _checked_shapes(folder)
    config = read_json(folder / "text_encoder" / "config.json")
    check_numbers(config, str(folder / "text_encoder" / "config.json"))
    _check_sizes(config, shapes, folder)
    names = config.get("architectures")
    if names not in (["CLIPTextModel"], ["CLIPTextModelWithProjection"]):
        raise SynthesizerLoadError(
            f"`folder` must hold a CLIPTextModel in text_encoder/, got {names} in {folder}. Encode the prompts "
            "with it yourself and pass their embeddings to Prompts."
        )
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder, info = CLIPTextModel.from_pretrained(
            folder / "text_encoder", local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        length = tokenizer.model_max_length
        if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= _MOST_TOKENS:
            raise ValueError(f"a tokenizer with model_max_length {length!r:.80}")
        tokenizer(["a"], padding="max_length", max_length=min(length, 8))
        if missing := sorted(map(str, info["missing_keys"])):  # they would be random numbers
            raise ValueError(f"no weights for {missing[0]!r:.80}, {len(missing)} in all")
    except BaseException as error:
        # What fails in Rust is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise SynthesizerLoadError(
            f"`folder` must hold a CLIP tokenizer and text encoder (safetensors), got {error!r} from {folder}. Save "
            "them again with save_pretrained."
        ) from error
    return tokenizer, encoder


def _checked_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights, once every file is one that transformers may open without looking.

    Raises:
        SynthesizerLoadError: named pipes, devices, files that are too large, pickled shards.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(file for name in ("tokenizer", "text_encoder") for file in (folder / name).iterdir()):
        if path.is_dir():
            continue
        if path.suffix == ".safetensors":
            shapes |= tensor_shapes(path)
        elif path.suffix in (".json", ".txt"):
            check_file(path, MAX_JSON_BYTES)
        else:
            check_file(path)
        if path.name.endswith(".index.json"):
            mapping = read_json(path).get("weight_map")
            files = mapping.values() if isinstance(mapping, dict) else [mapping]
            wrong = [
                str(file)[:80] for file in files if Path(str(file)).name != file or not file.endswith(".safetensors")
            ]
            if wrong:
                raise SynthesizerLoadError(
                    f"`weight_map` must name safetensors files of its folder, got {wrong[0]!r} at {path}. Pickled "
                    "weights can run any code and are not loaded. Save the encoder again with save_pretrained."
                )
    return shapes


def _check_sizes(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """Refuses an encoder far larger than its weights, which would be built before they are missed."""
    numbers = {name: value for name, value in config.items() if isinstance(value, int)}
    weights, width = sum(map(math.prod, shapes.values())), numbers.get("hidden_size", 512)
    sizes = ("vocab_size", "intermediate_size", "max_position_embeddings", "projection_dim")
    too_large = [name for name in sizes if numbers.get(name, 0) * min(width, 8) > weights + (1 << 20)]
    if too_large or width**2 > weights + (1 << 20) or numbers.get("num_hidden_layers", 12) > len(shapes):
        raise SynthesizerLoadError(
            f"{folder} must hold a text encoder with the weights of its config.json, got {len(shapes)} tensors of "
            f"{weights:,} numbers for a larger one. Nothing was built. Save the encoder again with save_pretrained."
        )


def _check_tokens(tokens: Tensor, encoder: Any, folder: str | Path) -> None:
    words, positions = encoder.config.vocab_size, encoder.config.max_position_embeddings
    if not 0 <= int(tokens.min()) <= int(tokens.max()) < words or tokens.shape[1] > positions:
        raise SynthesizerLoadError(
            f"`folder` must hold a tokenizer for its text encoder, of {words} words and {positions} positions, got "
            f"word {int(tokens.max())} of {tokens.shape[1]} from {folder}. Take both from the same pipeline."
        )
