"""`TwoStageSynthesizer`: a generator of masks, then one of images for these masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.contracts import ClassConditional, Stored, Synthesizer, device_of, num_classes_of, trained_on_all
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.fingerprints import settings_digest
from torchgenaug.types import Batch, FieldSpec

_FIRST, _SECOND = 64, 65  # purposes of seeds, apart from those of `torchgenaug.seeding`


class TwoStageSynthesizer:
    """Draws a mask with one synthesizer and the image for it with another: labelled samples from nothing.

    Deterministic, and picklable if both are. Each stage has a stream of seeds of its own, derived from the sample's.
    One stage runs after the other: at most one works at a time.

    Both stages get the conditions, but ``label`` only where a stage has classes (its ``num_classes`` is not None); the
    second gets the mask, too.

    Args:
        mask_synthesizer: makes the field `mask`, a label map; what else it makes is dropped.
        image_synthesizer: takes the condition `mask`, int64 or whatever the first makes, (batch, 1, *spatial).
        mask: name of field and condition.
        probe: conditions of one sample that is made at construction, so that stages that do not fit each other are
            found now; None: ``label`` 0 where a stage has classes; False: make none (for slow models).

    Attributes:
        fields: the mask, and all fields of `image_synthesizer`.

    Raises:
        ConfigurationError: a first stage without such a mask, a second one that makes a mask itself, images of another
            spatial shape than the masks, or a second stage that refuses the mask.

    Example:
        >>> from torchgenaug.testing import AnalyticSynthesizer
        >>> from torchgenaug import FieldSpec, FunctionSynthesizer, seeding
        >>> def paint(seeds, conditions):
        ...     return {"image": conditions["mask"] + 0.1 * seeding.normal(seeds, (1, 32, 32))}
        >>> painter = FunctionSynthesizer(paint, {"image": FieldSpec((1, 32, 32))}, fingerprint="paint 1")
        >>> sorted(TwoStageSynthesizer(AnalyticSynthesizer(), painter).synthesize([1])["image"].shape)
        [1, 1, 32, 32]

    References:
        Guibas, Virdi, Li (2017). Synthetic medical images from dual generative adversarial networks. arXiv:1709.01872.
        Platscher, Zopes, Federau (2022). Image translation for medical image generation: ischemic stroke lesion
        segmentation. Biomedical Signal Processing and Control 72, 103283.
    """

    family: ClassVar[str] = "two_stage"

    def __init__(
        self,
        mask_synthesizer: Synthesizer,
        image_synthesizer: Synthesizer,
        *,
        mask: str = "mask",
        probe: Batch | Literal[False] | None = None,
    ) -> None:
        for name, stage in (("mask_synthesizer", mask_synthesizer), ("image_synthesizer", image_synthesizer)):
            if not isinstance(stage, Synthesizer):
                raise ConfigurationError(
                    f"`{name}` must be a synthesizer, got {type(stage).__name__}. Wrap a network as ModuleSynthesizer."
                )
        self.mask_synthesizer, self.image_synthesizer, self.mask = mask_synthesizer, image_synthesizer, mask
        stages = {"mask": mask_synthesizer, "image": image_synthesizer}
        self.trained_on: Mapping[str, Any] | None = trained_on_all(stages)
        spec = self._mask_spec()
        self.fields: Mapping[str, FieldSpec] = {**image_synthesizer.fields, mask: spec}
        self._check_images(spec)
        if probe is not False:
            self._probe(spec, probe)

    @property
    def device(self) -> torch.device:
        """Where images are made; a CUDA device if either stage is on one."""
        stages = (self.image_synthesizer, self.mask_synthesizer)
        devices = [device_of(stage) for stage in stages]
        return next((device for device in devices if device.type != "cpu"), devices[0])

    @property
    def num_classes(self) -> int | None:
        """Labels lie in [0, num_classes); None if no stage has classes."""
        counts = [num_classes_of(stage) for stage in (self.mask_synthesizer, self.image_synthesizer)]
        return min((count for count in counts if count is not None), default=None)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over both stages."""
        stages = [self.mask_synthesizer.fingerprint, self.image_synthesizer.fingerprint]
        return settings_digest({"family": "two_stage", "mask": self.mask, "stages": stages})

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One mask and one image per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: those of either stage, without the mask.

        Raises:
            ConfigurationError: a mask among the conditions, or what a stage raises.
        """
        if conditions is not None and self.mask in conditions:
            raise ConfigurationError(
                f"`conditions` must not hold {self.mask!r}, which the first stage makes. For images of given masks use "
                "the second stage alone: TwoStageSynthesizer(...).image_synthesizer."
            )
        made = self.mask_synthesizer.synthesize(
            _stream(seeds, _FIRST), _conditions_of(self.mask_synthesizer, conditions)
        )
        masks = made[self.mask]
        del made
        images = self._images(seeds, masks, conditions)
        return {**images, self.mask: masks.to(next(iter(images.values())).device)}

    def stored(self) -> Stored:
        """What `save_synthesizer` writes."""
        parts = {"mask": self.mask_synthesizer, "image": self.image_synthesizer}
        return Stored({"mask": self.mask}, parts=parts)

    @classmethod
    def from_stored(cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None) -> TwoStageSynthesizer:
        """The synthesizer that `stored` described; its stages are on the device already."""
        # They fitted each other when they were saved.
        return cls(stored.parts["mask"], stored.parts["image"], mask=stored.settings["mask"], probe=False)

    def _images(self, seeds: Sequence[int], masks: Tensor, conditions: Batch | None) -> Batch:
        with_mask = {**(_conditions_of(self.image_synthesizer, conditions) or {}), self.mask: masks}
        return self.image_synthesizer.synthesize(_stream(seeds, _SECOND), with_mask)

    def _mask_spec(self) -> FieldSpec:
        spec = self.mask_synthesizer.fields.get(self.mask)
        if spec is None or spec.kind != "label_map":
            got = {name: str(other) for name, other in self.mask_synthesizer.fields.items()}
            raise ConfigurationError(
                f"`mask_synthesizer` must make {self.mask!r}, a label map, got the fields {got}. Name another field "
                "with `mask`."
            )
        if self.mask in self.image_synthesizer.fields:
            raise ConfigurationError(
                f"`image_synthesizer` must not make {self.mask!r} itself. A sample would have two. A model that makes "
                "images and masks together needs no first stage."
            )
        return spec

    def _check_images(self, spec: FieldSpec) -> None:
        for name, other in self.image_synthesizer.fields.items():
            if len(other.shape) >= 3 and other.shape[1:] != spec.shape[1:]:
                raise ConfigurationError(
                    f"`image_synthesizer` must make images of the masks' shape, {spec.shape[1:]}, got "
                    f"{other.shape[1:]} for {name!r}. Image and mask would not belong together. Train both on the same "
                    "size."
                )

    def _probe(self, spec: FieldSpec, probe: Batch | None) -> None:
        if probe is None and self.num_classes is not None:
            probe = {"label": torch.zeros(1, dtype=torch.int64)}
        if spec.value_range is None:
            made = self.mask_synthesizer.synthesize(_stream([0], _FIRST), _conditions_of(self.mask_synthesizer, probe))
            masks = made[self.mask]
        else:  # the lowest and the highest class must be known
            low, high = (int(limit) for limit in spec.value_range)
            masks = torch.full((1, *spec.shape), low, dtype=spec.dtype)
            masks[..., : max(1, spec.shape[-1] // 2)] = high
        try:
            painted = self._images([0], masks, probe)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"`image_synthesizer` must take masks {spec}, got: {error} If it is another condition that is missing, "
                "pass one sample's as `probe`."
            ) from error
        if set(painted) != set(self.image_synthesizer.fields):
            raise ConfigurationError(
                f"`image_synthesizer` must make its fields {sorted(self.image_synthesizer.fields)}, got "
                f"{sorted(painted)}."
            )

    def __repr__(self) -> str:
        return f"TwoStageSynthesizer({self.mask_synthesizer!r}, {self.image_synthesizer!r})"


def _stream(seeds: Sequence[int], purpose: int) -> list[int]:
    derived: list[int] = seeding.derive(np.array([int(seed) for seed in seeds], np.uint64), purpose).tolist()
    return derived


def _conditions_of(stage: Synthesizer, conditions: Batch | None) -> Batch | None:
    """The conditions for one stage: a label only where it has classes."""
    if conditions is None or not isinstance(stage, ClassConditional) or stage.num_classes is not None:
        return conditions
    return {name: value for name, value in conditions.items() if name != "label"} or None
