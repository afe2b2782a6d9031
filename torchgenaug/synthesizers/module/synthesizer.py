"""`ModuleSynthesizer`: any network to images: GAN generators, VAE decoders, flows, translators of masks and images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from torchgenaug import seeding
from torchgenaug.contracts import Stored
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.module.conditions import (
    ConditionKind,
    checked_condition,
    checked_output_range,
    code_of,
    frozen_copy,
    made_field,
    packed,
    unpacked,
)
from torchgenaug.synthesizers.parts.checks import (
    check_finite,
    check_seeds,
    checked_dtype,
    checked_labels,
    checked_value_range,
)
from torchgenaug.synthesizers.parts.compute import Caller, checked_execution, with_layout
from torchgenaug.synthesizers.parts.fingerprints import module_digest, settings_digest
from torchgenaug.synthesizers.parts.options import Compute, ComputeOptions, checked_compute
from torchgenaug.texts import describe_value
from torchgenaug.types import Batch, FieldSpec

_PROBE_TOLERANCE = 0.05  # of the largest value: bfloat16 keeps 3 digits, and a batch effect is far larger


class ModuleSynthesizer:
    """A network from standard normal latents, class labels, masks or images to images, as a synthesizer.

    Deterministic and picklable (if the module is, or is of TorchScript); safe in threads if the module's forward is.
    The module is **copied**, set to eval mode (so that BatchNorm uses its running statistics and dropout is off) and
    kept without gradients; the given one stays as it is. Two probe calls with one and two latents, at construction,
    find the output shape and make sure that a sample depends on its own latent (and condition) alone.

    Args:
        module: called as ``module(latents)`` or ``module(latents, labels)``: latents (batch, *latent_shape) in `dtype`,
            labels int64 (batch,). With `condition` as ``module(latents, condition)``, without latents as
            ``module(condition)``; with source images and classes the labels come last. Returns images
            (batch, channels, *spatial), floating point. TorchScript (`torch.jit.load`) and
            ``torch.export.load(path).module()`` are modules, too; they cannot be saved by `save_synthesizer`, and the
            latter must have been exported in eval mode with a batch axis of any size.
        latent_shape: shape of one latent: ``(128,)`` for most generators, (channels, *spatial) for most decoders.
            None for a module of its condition alone, whose samples are the same for all seeds.
        num_classes: number of classes; the condition ``label`` is then needed, or with condition="mask" the classes of
            the masks, background included. None for a module without classes.
        condition: ``"mask"``: the module is given one-hot masks (batch, num_classes, *spatial) of 0 and 1 in `dtype`;
            ``"source"``: images (batch, channels, *spatial) in `dtype`, in their own unit. None: neither.
        condition_spec: of the condition: its shape, and of source images the range.
        value_range: what the images can be. Without `output_range` it is stated and the outputs are not changed.
        output_range: what the module's outputs can be, (-1, 1) for a generator that ends in tanh: mapped linearly to
            `value_range`, and not clamped. None: the outputs are in `value_range` already.
        makes: ``"image"``; or ``"mask"``: the module returns unbounded scores, a channel for each class, of which the
            largest counts. `value_range` is then (0, classes - 1).
        compute: where it computes, a `Compute`; its attributes (`device`, `dtype`, `channels_last`, `compile`,
            `cuda_graph`) may be passed as keywords instead.

    Attributes:
        fields: ``image``: (channels, *spatial) float32 in `value_range`; or ``mask``: (1, *spatial) int64.
        execution: layout, compilation and CUDA graphs, as chosen.
        trained_on: what the model was trained on, JSON-ready; None where unknown. `save_synthesizer` keeps it.

    Raises:
        ConfigurationError: a module that fails on such latents, returns something else than one image tensor, or whose
            output for one latent depends on the others of the batch or on chance.

    Example:
        >>> generator = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Tanh(), torch.nn.Unflatten(1, (1, 8, 8)))
        >>> synthesizer = ModuleSynthesizer(generator, latent_shape=(8,), value_range=(-1, 1))
        >>> synthesizer.synthesize([0, 1])["image"].shape
        torch.Size([2, 1, 8, 8])
    """

    family: ClassVar[str] = "module"

    def __init__(
        self,
        module: nn.Module,
        *,
        latent_shape: Sequence[int] | None,
        num_classes: int | None = None,
        condition: ConditionKind | None = None,
        condition_spec: FieldSpec | None = None,
        value_range: tuple[float, float],
        output_range: tuple[float, float] | None = None,
        makes: Literal["image", "mask"] = "image",
        compute: Compute | None = None,
        **options: Unpack[ComputeOptions],
    ) -> None:
        compute = checked_compute(type(self).__name__, options, compute)
        if not isinstance(module, nn.Module):
            raise ConfigurationError(
                f"`module` must be a torch.nn.Module, got {type(module).__name__}. "
                "Wrap a plain function as FunctionSynthesizer."
            )
        try:
            self.latent_shape = None if latent_shape is None else tuple(int(size) for size in latent_shape)
        except (TypeError, ValueError):
            self.latent_shape = ()
        without = latent_shape is None and condition is not None
        if not without and (not self.latent_shape or min(self.latent_shape) < 1):
            raise ConfigurationError(
                f"`latent_shape` must hold positive sizes, without the batch axis, got {latent_shape!r}. "
                "For example (128,) for a vector."
            )
        if num_classes is not None and (
            isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1
        ):
            raise ConfigurationError(
                f"`num_classes` must be a positive integer, got {num_classes!r}. Leave it out for an unconditional "
                "module."
            )
        self._classes = num_classes  # of labels, or of masks
        self.condition = checked_condition(condition, condition_spec, num_classes)
        self.value_range = checked_value_range(value_range)
        self.output_range = None if output_range is None else checked_output_range(output_range)
        self.trained_on: Mapping[str, Any] | None = None
        self.dtype = checked_dtype(compute.dtype)
        parameter = next(module.parameters(), None)
        own = torch.device("cpu") if parameter is None else parameter.device
        self.device = own if compute.device is None else torch.device(compute.device)
        self.execution = checked_execution(compute, self.device)
        self.module = frozen_copy(module, self.device, self.dtype)
        if compute.channels_last is not None:
            with_layout(self.module, compute.channels_last)
        self._caller = Caller(_image, self.execution)
        self.makes = makes
        self.fields: Mapping[str, FieldSpec] = {makes: made_field(makes, self._probe(), self.value_range)}

    @property
    def num_classes(self) -> int | None:
        """Labels lie in [0, num_classes); None for a module without labels, also for one conditioned on masks."""
        return None if self.condition is not None and self.condition.kind == "mask" else self._classes

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over weights, classes and plain attributes of the module and its parts, and the settings."""
        return settings_digest(
            {
                "family": "module",
                "module": module_digest(self.module),
                "code": code_of(self.module),
                "latent_shape": self.latent_shape,
                "num_classes": self._classes,
                "value_range": self.value_range,
                **({} if self.output_range is None else {"output_range": self.output_range}),
                **({} if self.makes == "image" else {"makes": self.makes}),
                "dtype": str(self.dtype),
                **({} if self.condition is None else self.condition.settings),
                **self.execution.decisive,
            }
        )

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One image per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: ``label``, int64 (batch,), if the module has classes; ``mask``, integers (batch, 1, *spatial),
                or ``source``, (batch, channels, *spatial), if it has such a condition.

        Raises:
            ConfigurationError: no seeds, or conditions that are missing, surplus or out of range.
        """
        check_seeds(seeds)
        condition = self._condition_input(conditions, len(seeds))
        # no_grad rather than inference_mode: samples are ordinary tensors, usable in training.
        with torch.no_grad():
            made = self._caller(self.module, self._latents(seeds), *condition)
        if self.makes == "mask":
            check_finite(made, seeds)  # an argmax would give NaN a class
            return {"mask": made.argmax(1, keepdim=True)}
        return {"image": self._mapped(made.float()).contiguous()}

    def stored(self) -> Stored:
        """What `save_synthesizer` writes; the module must come from `build_network`."""
        settings = {
            "latent_shape": None if self.latent_shape is None else list(self.latent_shape),
            "num_classes": self._classes,
            **({} if self.condition is None else self.condition.settings),
            "value_range": list(self.value_range),
            **({} if self.output_range is None else {"output_range": list(self.output_range)}),
            **({} if self.makes == "image" else {"makes": self.makes}),
            "dtype": str(self.dtype).removeprefix("torch."),
            **self.execution.settings,
        }
        return Stored(settings, {"module": self.module})

    @classmethod
    def from_stored(cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None) -> ModuleSynthesizer:
        """The synthesizer that `stored` describes; see `Storable.from_stored`."""
        arguments = stored.arguments(device, dtype)
        if "condition_spec" in arguments:
            arguments["condition_spec"] = FieldSpec.from_json(arguments["condition_spec"])
        return cls(stored.networks["module"], **arguments)

    def _mapped(self, images: Tensor) -> Tensor:
        """Images of `output_range` in `value_range`."""
        if self.output_range is None:
            return images
        (low, high), (darkest, brightest) = self.value_range, self.output_range
        factor = (high - low) / (brightest - darkest)
        return images.mul(factor).add_(low - darkest * factor)

    def _latents(self, seeds: Sequence[int]) -> Tensor | None:
        if self.latent_shape is None:
            return None
        noise = seeding.normal(seeding.derive(list(seeds), seeding.NOISE), self.latent_shape, device=self.device)
        return noise.to(self.dtype)

    def _condition_input(self, conditions: Batch | None, count: int) -> list[Tensor | None]:
        """What the module takes after latents: one-hot masks or source images, labels; one None if nothing."""
        labels = checked_labels(conditions, count, self.num_classes)
        given = [] if labels is None else [labels.to(self.device)]
        if self.condition is not None:
            given = [self.condition.given(conditions, count).to(self.device, self.dtype), *given]
        return [*given] or [None]

    def _images(self, *inputs: Tensor | None) -> Tensor:
        """What the module makes, called plainly and checked."""
        with torch.no_grad():
            made = _image(self.module, *inputs)
        if not isinstance(made, Tensor) or not made.is_floating_point() or made.ndim < 3:
            raise ConfigurationError(
                "`module` must return one floating-point tensor of images (batch, channels, *spatial), got "
                f"{describe_value(made)}. Put it into a module whose forward returns the images alone."
            )
        return made.float().contiguous()

    def _probe(self) -> tuple[int, ...]:
        """The shape of one image."""
        inputs = [self._latents([0, 1])]
        if self.condition is not None:
            inputs.append(self.condition.probe(2).to(self.device, self.dtype))
        if self.num_classes is not None:
            inputs.append(torch.zeros(2, dtype=torch.int64, device=self.device))
        try:
            both = self._images(*inputs)
            second = self._images(*(None if each is None else each[1:] for each in inputs))
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f"`module` must take {self._expected_inputs()}, got {type(self.module).__name__}, which fails "
                f"with: {error!r}. Check `latent_shape`, `num_classes` and `condition`."
            ) from error
        if both.shape[0] != 2 or second.shape != both[1:].shape:
            raise ConfigurationError(
                f"`module` must return one image per latent, got shapes {tuple(both.shape)} for two latents and "
                f"{tuple(second.shape)} for one. The batch must be the first axis."
            )
        scale = float(both.abs().max())
        gap = float((both[1:] - second).abs().max())
        if math.isfinite(scale) and gap > _PROBE_TOLERANCE * scale:
            raise ConfigurationError(
                f"`module` must be a function of each latent alone, got outputs that differ by {gap:.3g} for the same "
                "latent. It draws random numbers or uses statistics of the batch (BatchNorm without running "
                "statistics). Let it take all noise from the latent, or wrap it as FunctionSynthesizer."
            )
        return tuple(both.shape[1:])

    def _expected_inputs(self) -> str:
        parts = []
        if self.latent_shape is not None:
            parts.append(f"latents of shape (batch, {', '.join(map(str, self.latent_shape))})")
        if self.condition is not None:
            parts.append(str(self.condition))
        if self.num_classes is not None:
            parts.append("labels (batch,)")
        return " and ".join(parts)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "module": packed(self.module)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, module=unpacked(state["module"], state["device"]))

    def __repr__(self) -> str:
        classes = "" if self._classes is None else f", num_classes={self._classes}"
        return f"ModuleSynthesizer({type(self.module).__name__}, {self.fields['image'].shape}{classes}, {self.device})"


def _image(module: nn.Module, *inputs: Tensor | None) -> Tensor:
    made = module(*(each for each in inputs if each is not None))
    image: Tensor = made[0] if isinstance(made, tuple | list) and len(made) == 1 else made
    return image
