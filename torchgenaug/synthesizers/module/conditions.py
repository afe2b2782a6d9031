"""What a `ModuleSynthesizer`'s module takes and makes; copies of modules of every kind."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.checks import checked_value_range
from torchgenaug.synthesizers.parts.image_conditions import checked_source, given_image, given_mask, one_hot
from torchgenaug.types import Batch, FieldSpec

ConditionKind: TypeAlias = Literal["mask", "source"]


@dataclass(frozen=True)
class ImageCondition:
    """What kind of image a module is conditioned on.

    Attributes:
        kind: ``"mask"`` or ``"source"``.
        spec: what a condition must be.
        num_classes: classes of a mask, background included.
    """

    kind: ConditionKind
    spec: FieldSpec
    num_classes: int | None

    @property
    def settings(self) -> dict[str, Any]:
        """For `stored` and fingerprints, JSON-ready."""
        return {"condition": self.kind, "condition_spec": self.spec.to_json()}

    def given(self, conditions: Batch | None, count: int) -> Tensor:
        """What the module is called with: one-hot masks (count, classes, *spatial) or sources (count, *shape), float32.

        Raises:
            ConfigurationError: a condition that is missing, of another shape or dtype, or with unknown values.
        """
        if self.num_classes is None:
            return given_image("source", conditions, count, self.spec).float()
        return one_hot(given_mask(conditions, count, self.spec.shape[1:], self.num_classes), self.num_classes)

    def probe(self, count: int) -> Tensor:
        """Such a condition, of noise that is the same each time."""
        noise = torch.rand((count, *self.spec.shape), generator=torch.Generator().manual_seed(0))
        if self.num_classes is not None:
            return one_hot((noise * self.num_classes).to(torch.int64), self.num_classes)
        low, high = self.spec.value_range or (0.0, 1.0)
        return noise * (high - low) + low

    def __str__(self) -> str:
        channels = self.num_classes or self.spec.shape[0]
        what = "one-hot masks" if self.num_classes else "source images"
        return f"{what} (batch, {', '.join(map(str, (channels, *self.spec.shape[1:])))})"


def checked_condition(condition: object, spec: object, num_classes: int | None) -> ImageCondition | None:
    """The image condition of a module; None for none.

    Raises:
        ConfigurationError: an unknown kind, or a spec or number of classes that is missing, surplus or does not fit.
    """
    if condition is None:
        if spec is not None:
            raise ConfigurationError(
                f"`condition_spec` must come with `condition`, got {spec}. Say condition='mask' or 'source'."
            )
        return None
    if condition not in ("mask", "source"):
        raise ConfigurationError(
            f"`condition` must be 'mask', 'source' or None, got {condition!r}. For classes use num_classes."
        )
    if not isinstance(spec, FieldSpec) or len(spec.shape) not in (3, 4):
        raise ConfigurationError(
            f"`condition_spec` must be the FieldSpec of the condition {condition!r}, (channels, *spatial), got {spec}. "
            "For example FieldSpec((1, 64, 64), torch.int64, kind='label_map')."
        )
    if condition == "source":
        checked_source(spec, spec.shape[1:])
        return ImageCondition("source", spec, None)
    known = None if spec.value_range is None else int(spec.value_range[1]) + 1
    if spec.kind != "label_map" or spec.shape[0] != 1:
        raise ConfigurationError(
            f"`condition_spec` of masks must be a label map of one channel, got {spec}. "
            f"For example FieldSpec({(1, *spec.shape[1:])}, torch.int64, kind='label_map')."
        )
    if num_classes is None or num_classes < 2 or (known is not None and known > num_classes):
        raise ConfigurationError(
            f"`num_classes` must be the number of classes in masks, at least 2, the background included, got "
            f"{num_classes!r} for {spec}. The module is called with that many channels."
        )
    return ImageCondition("mask", spec, num_classes)


def checked_output_range(limits: tuple[float, float]) -> tuple[float, float]:
    """`checked_value_range`, whose errors name `output_range`."""
    try:
        return checked_value_range(limits)
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace("`value_range`", "`output_range`")) from error


def made_field(makes: object, shape: tuple[int, ...], value_range: tuple[float, float]) -> FieldSpec:
    """The field of what a module makes.

    Args:
        makes: ``"image"`` or ``"mask"``.
        shape: (channels, *spatial) of what it returns.
        value_range: of images; of masks (0, classes - 1).

    Raises:
        ConfigurationError: neither, or scores that are not as many as the classes of masks.
    """
    if makes == "image":
        return FieldSpec(shape, value_range=value_range)
    if makes != "mask":
        raise ConfigurationError(
            f"`makes` must be 'image' or 'mask', got {makes!r}. For both, use TwoStageSynthesizer."
        )
    if shape[0] < 2 or value_range != (0, shape[0] - 1):
        raise ConfigurationError(
            f"`value_range` must be (0, {max(1, shape[0] - 1)}) for a module that returns {shape[0]} class scores, got "
            f"{value_range}. A mask holds one of two or more classes, the background included."
        )
    return FieldSpec((1, *shape[1:]), torch.int64, kind="label_map", value_range=value_range)


def frozen_copy(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A copy on `device` in `dtype`, in eval mode, without gradients; TorchScript and exported programs too."""
    # TorchScript has a copy of its own, and no requires_grad_ for a whole module.
    scripted = isinstance(module, torch.jit.ScriptModule)
    try:
        made = unpacked(packed(module), device) if scripted else copy.deepcopy(module)
    except RuntimeError as error:
        if "deepcopy protocol" not in str(error):
            raise
        raise ConfigurationError(
            f"`module` must hold no tensors that are results of others, got {error} torch.nn.utils.weight_norm and "
            "spectral_norm keep some: take those of torch.nn.utils.parametrizations; or remove_weight_norm, "
            "remove_spectral_norm when training is over."
        ) from error
    for parameter in made.parameters():
        parameter.requires_grad_(False)
    made = made.to(device=device, dtype=dtype)
    # What torch.export traced is fixed: it refuses eval(), and was exported in the mode that it is in.
    return made if isinstance(made, torch.fx.GraphModule) else made.eval()


def code_of(module: nn.Module) -> str:
    """The code of a TorchScript module or a graph: two of them may have the same printed structure."""
    found = []
    for part in module.modules():
        if isinstance(part, torch.fx.GraphModule):
            found.append(part.code)
        elif isinstance(part, torch.jit.ScriptModule):
            code, constants = part.code_with_constants
            found += [code, str({name: value.tolist() for name, value in constants.const_mapping.items()})]
    return "\n".join(found)


def packed(module: nn.Module) -> Any:
    """`module`, or the bytes of a TorchScript module, which pickle does not know."""
    if not isinstance(module, torch.jit.ScriptModule):
        return module
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    return buffer.getvalue()


def unpacked(packed_module: Any, device: torch.device) -> nn.Module:
    """The module that `packed` was given, on `device`."""
    if not isinstance(packed_module, bytes):
        module: nn.Module = packed_module
        return module
    loaded: nn.Module = torch.jit.load(io.BytesIO(packed_module), map_location=device)  # type: ignore[no-untyped-call]
    return loaded
