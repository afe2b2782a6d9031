"""`ModuleSynthesizer`: any network that maps latents to images: GAN generators, VAE decoders, flows."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from torchgenaug import seeding
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.checks import checked_dtype, checked_labels, checked_value_range
from torchgenaug.synthesizers.execution import Caller, checked_execution, with_layout
from torchgenaug.synthesizers.fingerprints import settings_digest, weights_digest
from torchgenaug.synthesizers.stored import Stored
from torchgenaug.types import Batch, FieldSpec

_PROBE_TOLERANCE = 0.05  # of the largest value: bfloat16 keeps 3 digits, and a batch effect is far larger


class ModuleSynthesizer:
    """A network from standard normal latents (and class labels) to images, as a synthesizer.

    Deterministic and picklable (if the module is); safe in threads if the module's forward is. The module is
    **copied**, set to eval mode (so that BatchNorm uses its running statistics and dropout is off) and kept without
    gradients; the given one stays as it is. Two probe calls with one and two latents, at construction, find the output
    shape and make sure that a sample depends on its own latent alone.

    Args:
        module: called as ``module(latents)`` or ``module(latents, labels)``: latents (batch, *latent_shape) in `dtype`,
            labels int64 (batch,). Returns images (batch, channels, *spatial), floating point.
        latent_shape: shape of one latent: ``(128,)`` for most generators, (channels, *spatial) for most decoders.
        num_classes: number of classes; the condition ``label`` is then needed. None for an unconditional module.
        value_range: what the outputs can be, stated and not changed: neither mapped nor clamped. (-1, 1) for a
            generator that ends in tanh.
        device: where to compute and where samples are made; default: where the module's parameters are.
        dtype: dtype of weights and latents, default float32. Samples are float32. Half precision pays on GPUs.
        channels_last: memory layout of convolutions' weights, 2D and 3D. None: as they are. Which pays depends on the
            network: with channels last, on a CPU, a DCGAN and a 3D decoder took a fifth less time, a decoder with
            GroupNorm a tenth more.
        compile: compile the module with torch.compile, once for every batch size, which takes half a minute to minutes
            and pays from some thousands of samples on. True is "inductor"; or the name of another backend.
        cuda_graph: replay the module as a CUDA graph, captured once for every batch size. Pays for small networks and
            small batches, where the GPU waits for Python.

    Attributes:
        fields: ``image``: (channels, *spatial) float32 in `value_range`.
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
        latent_shape: Sequence[int],
        num_classes: int | None = None,
        value_range: tuple[float, float],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool | None = None,
        compile: bool | str = False,  # noqa: A002 (the name that users know from torch.compile)
        cuda_graph: bool = False,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise ConfigurationError(
                f"`module` must be a torch.nn.Module, got {type(module).__name__}. "
                "Wrap a plain function as FunctionSynthesizer."
            )
        try:
            self.latent_shape = tuple(int(size) for size in latent_shape)
        except (TypeError, ValueError):
            self.latent_shape = ()
        if not self.latent_shape or min(self.latent_shape) < 1:
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
        self.num_classes = num_classes
        self.value_range = checked_value_range(value_range)
        self.trained_on: Mapping[str, Any] | None = None
        self.dtype = checked_dtype(dtype)
        parameter = next(module.parameters(), None)
        if device is None:
            device = torch.device("cpu") if parameter is None else parameter.device
        self.device = torch.device(device)
        self.execution = checked_execution(channels_last, compile, cuda_graph, self.device)
        self.module = copy.deepcopy(module).to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)
        if channels_last is not None:
            with_layout(self.module, channels_last)
        self._caller = Caller(_image, self.execution)
        self.fields: Mapping[str, FieldSpec] = {"image": FieldSpec(self._probe(), value_range=self.value_range)}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over parameters and buffers, the class and printed structure of the module, and the settings."""
        structure = re.sub(r" at 0x[0-9a-f]+", "", repr(self.module))
        return settings_digest(
            {
                "family": "module",
                "class": type(self.module).__qualname__,
                "structure": structure,
                "weights": weights_digest(self.module),
                "latent_shape": self.latent_shape,
                "num_classes": self.num_classes,
                "value_range": self.value_range,
                "dtype": str(self.dtype),
                **self.execution.decisive,
            }
        )

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One image per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: ``label``, int64 (batch,), if the module has classes.

        Raises:
            ConfigurationError: no seeds, or labels that are missing, surplus or out of range.
        """
        if len(seeds) == 0:
            raise ConfigurationError("`seeds` must hold at least one seed, got none.")
        labels = checked_labels(conditions, len(seeds), self.num_classes)
        # no_grad rather than inference_mode: samples are ordinary tensors, usable in training.
        with torch.no_grad():
            made = self._caller(self.module, self._latents(seeds), None if labels is None else labels.to(self.device))
        return {"image": made.float().contiguous()}

    def stored(self) -> Stored:
        """What `save_synthesizer` writes; the module must come from `build_network`."""
        settings = {
            "latent_shape": list(self.latent_shape),
            "num_classes": self.num_classes,
            "value_range": list(self.value_range),
            "dtype": str(self.dtype).removeprefix("torch."),
            **self.execution.settings,
        }
        return Stored(settings, {"module": self.module})

    @classmethod
    def from_stored(cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None) -> ModuleSynthesizer:
        """The other way round."""
        settings = dict(stored.settings)
        saved_dtype = getattr(torch, settings.pop("dtype"))
        if device.type != "cuda":
            settings.pop("cuda_graph", None)  # it changes no sample, and other devices have none
        return cls(stored.networks["module"], **settings, device=device, dtype=dtype or saved_dtype)

    def _latents(self, seeds: Sequence[int]) -> Tensor:
        noise = seeding.normal(seeding.derive(list(seeds), seeding.NOISE), self.latent_shape, device=self.device)
        return noise.to(self.dtype)

    def _images(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """What the module makes, called plainly and checked."""
        with torch.no_grad():
            made = _image(self.module, latents, None if labels is None else labels.to(self.device))
        if not isinstance(made, Tensor) or not made.is_floating_point() or made.ndim < 3:
            raise ConfigurationError(
                "`module` must return one floating-point tensor of images (batch, channels, *spatial), got "
                f"{_described(made)}. Put it into a module whose forward returns the images alone."
            )
        return made.float().contiguous()

    def _probe(self) -> tuple[int, ...]:
        """The shape of one image."""
        latents = self._latents([0, 1])
        labels = None if self.num_classes is None else torch.zeros(2, dtype=torch.int64)
        try:
            both = self._images(latents, labels)
            second = self._images(latents[1:], None if labels is None else labels[1:])
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f"`module` must take latents of shape (batch, {', '.join(map(str, self.latent_shape))})"
                f"{'' if labels is None else ' and labels (batch,)'}, got {type(self.module).__name__}, which fails "
                f"with: {error!r}. Check `latent_shape` and `num_classes`."
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

    def __repr__(self) -> str:
        classes = "" if self.num_classes is None else f", num_classes={self.num_classes}"
        return f"ModuleSynthesizer({type(self.module).__name__}, {self.fields['image'].shape}{classes}, {self.device})"


def _image(module: nn.Module, latents: Tensor, labels: Tensor | None) -> Tensor:
    made = module(latents) if labels is None else module(latents, labels)
    image: Tensor = made[0] if isinstance(made, tuple | list) and len(made) == 1 else made
    return image


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__
