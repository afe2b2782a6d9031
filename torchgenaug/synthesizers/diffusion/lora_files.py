"""Files of low-rank adapters (LoRA), as diffusers and peft write them: tensors, their scale, what they are named."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from torchgenaug.errors import SynthesizerLoadError
from torchgenaug.synthesizers.parts.model_files import MAX_JSON_BYTES, parse_json, read_file, tensor_shapes

_METADATA = "lora_adapter_metadata"
_MAX_TENSORS = 20_000
_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")  # of diffusers, of peft
_SETTINGS = "adapter_config.json"
_PER_LAYER = ("alpha_pattern", "rank_pattern")


class Adapter(NamedTuple):
    """Tensors by key, alpha / rank (1 where nothing says it), and where they are from, for messages."""

    tensors: Mapping[str, Tensor]
    factor: float
    name: str


def read_adapter(lora: str | Path | Mapping[str, Tensor]) -> Adapter:
    """The adapter in a file, in a folder, or in tensors.

    Raises:
        SynthesizerLoadError: no file of safetensors there, or settings that `merge_lora` cannot follow.
    """
    if isinstance(lora, Mapping):
        return Adapter(dict(lora), 1.0, "an adapter")
    path = Path(lora)
    settings: Mapping[str, Any] = {}
    if path.is_dir():
        found = [path / name for name in _FILES if (path / name).is_file()]
        if not found:
            raise SynthesizerLoadError(
                f"`lora` must be a safetensors file or a folder with one of {', '.join(_FILES)}, got {str(path)!r} "
                "without any. Nothing was merged. Save the adapter there with peft's save_pretrained or diffusers' "
                "save_lora_weights; the folder of a whole pipeline goes to `torchgenaug fit lora --from`."
            )
        path = found[0]
        if (path.parent / _SETTINGS).exists():
            settings = parse_json(read_file(path.parent / _SETTINGS, MAX_JSON_BYTES), path.parent / _SETTINGS)
    try:
        tensors, noted = _tensors(path)
    except Exception as error:
        raise SynthesizerLoadError(
            f"`lora` must be a safetensors file, got {str(path)!r}, which fails with: {error!r}. Pickled adapters are "
            "not opened. Convert it with diffusers: pipeline.load_lora_weights, pipeline.save_lora_weights."
        ) from error
    factor = _factor(settings or noted, lora)
    base = settings.get("base_model_name_or_path")
    return Adapter(tensors, factor, f"{str(lora)!r} (trained for {base!r})" if base else repr(str(lora)))


def _tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    from safetensors import safe_open

    names = tensor_shapes(path).keys()  # a regular file, as large as its header states
    if len(names) > _MAX_TENSORS:
        raise ValueError(f"{len(names):,} tensors, where adapters have at most {_MAX_TENSORS:,}")
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        noted: Mapping[str, Any] = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    return tensors, {name.removeprefix("unet."): value for name, value in noted.items()}


def _factor(settings: Mapping[str, Any], lora: str | Path) -> float:
    """Alpha / rank, or alpha / √rank (rsLoRA, Kalajdzievski 2023)."""
    uneven = next((name for name in _PER_LAYER if settings.get(name)), None)
    alpha, rank = settings.get("lora_alpha"), settings.get("r")
    if uneven is None and (alpha is None or rank is None):
        return 1.0
    try:
        factor = float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") else float(rank))  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        factor = math.nan
    if uneven is None and math.isfinite(factor):
        return factor
    got = f"lora_alpha={alpha!r}, r={rank!r}" if uneven is None else f"a {uneven} for some of them"
    raise SynthesizerLoadError(
        f"`lora` must scale all layers by one number, alpha / rank, got {got} in {str(lora)!r}. Nothing was merged. "
        "Merge it with peft's merge_and_unload, and pass the merged network."
    )
