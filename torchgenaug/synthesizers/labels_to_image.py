"""`LabelsToImageSynthesizer`: images of random contrast painted on masks, without a trained model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.conditions.deform import described
from torchgenaug.contracts import Stored
from torchgenaug.errors import ConfigurationError
from torchgenaug.samples.random_state import seeded
from torchgenaug.samples.torchio_noise import with_own_noise
from torchgenaug.synthesizers.parts.checks import check_seeds
from torchgenaug.synthesizers.parts.fingerprints import settings_digest
from torchgenaug.synthesizers.parts.image_conditions import given
from torchgenaug.types import Batch, FieldSpec


class LabelsToImageSynthesizer:
    """Paints each class of a mask with a Gaussian of random mean and spread, as SynthSeg does; nothing is trained.

    A segmenter that is trained on such images has seen every contrast, and none in particular. The masks come from
    `RealFields(data, "mask", transform=…)`, moved by a transform. By `torchio.RandomLabelsToImage`, then a random blur
    and bias field of TorchIO.

    Deterministic: a sample is a function of its seed and its mask, and no global random state is moved, in any thread.
    Picklable, if `then` is; saved by `save_synthesizer` without one.

    Args:
        mask: the field of the masks, (1, *spatial) int64 of classes from 0: ``data.fields["mask"]``.
        mean: limits of the mean intensity of a class, within [0, 1].
        std: limits of the standard deviation within a class, not negative.
        then: TorchIO transform of the painted image, which draws from torch's generator alone; None: `RandomBlur` up to
            1 pixel and `RandomBiasField` with coefficients up to 0.3.

    Attributes:
        fields: ``image`` (1, *spatial) float32 in [0, 1]; what lies beyond is cut.
        condition_fields: ``mask``.

    Raises:
        ConfigurationError: a field that is no mask, or limits outside their domain; when sampling: no masks, or others
            than `mask` says.

    Example:
        >>> import torch
        >>> from torchgenaug.types import FieldSpec
        >>> spec = FieldSpec((1, 16, 16), torch.int64, kind="label_map", value_range=(0, 2))
        >>> synthesizer = LabelsToImageSynthesizer(spec)
        >>> synthesizer.synthesize([7], {"mask": torch.zeros(1, 1, 16, 16).long()})["image"].shape
        torch.Size([1, 1, 16, 16])

    References:
        Billot et al. (2023). SynthSeg: segmentation of brain MRI scans of any contrast and resolution without
        retraining. Medical Image Analysis 86, 102789.
        Pérez-García, Sparks, Ourselin (2021). TorchIO. Computer Methods and Programs in Biomedicine 208, 106236.
    """

    family: ClassVar[str] = "labels_to_image"
    trained_on: Mapping[str, Any] | None = None

    def __init__(
        self,
        mask: FieldSpec,
        *,
        mean: tuple[float, float] = (0.1, 0.9),
        std: tuple[float, float] = (0.01, 0.1),
        then: Callable[[Any], Any] | None = None,
    ) -> None:
        import torchio as tio

        is_mask = isinstance(mask, FieldSpec) and mask.kind == "label_map" and mask.value_range is not None
        if not is_mask or mask.shape[0] != 1 or len(mask.shape) not in (3, 4):
            raise ConfigurationError(
                f"`mask` must be the FieldSpec of a mask of one channel in 2D or 3D, got {mask}. Take it from the "
                'data: load_data("scans").fields["mask"].'
            )
        if not 0 <= mean[0] <= mean[1] <= 1 or not 0 <= std[0] <= std[1]:
            raise ConfigurationError(
                f"`mean` must be two limits within [0, 1], and `std` two that are not negative, smaller ones first, "
                f"got {mean!r} and {std!r}. For example mean=(0.1, 0.9), std=(0.01, 0.1)."
            )
        self.mean, self.std = tuple(mean), tuple(std)
        self._has_own_transform = then is not None
        self.fields: Mapping[str, FieldSpec] = {"image": FieldSpec(mask.shape, value_range=(0.0, 1.0))}
        self.condition_fields: Mapping[str, FieldSpec] = {"mask": mask}
        flat = len(mask.shape) == 3
        self._paint = tio.RandomLabelsToImage(label_key="mask", image_key="image", default_mean=mean, default_std=std)
        self._then = with_own_noise(
            then
            or tio.Compose(
                [
                    tio.RandomBlur(std=(0, 1, 0, 1, 0, 0) if flat else (0, 1)),
                    tio.RandomBiasField(coefficients=0.3),
                ]
            )
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over all settings."""
        return settings_digest(
            {
                "family": "labels-to-image",
                "mask": str(self.condition_fields["mask"]),
                "mean": list(self.mean),
                "std": list(self.std),
                "then": described(self._then),
            }
        )

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One image per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: ``mask`` (batch, 1, *spatial) int64.

        Raises:
            ConfigurationError: no masks, or masks of another shape, dtype or number of classes.
        """
        check_seeds(seeds)
        masks = self._checked(given("mask", conditions, "masks"), len(seeds))
        with seeded(torch_only=True) as reseed:
            images = []
            for seed, mask in zip(seeds, masks, strict=True):
                reseed(int(seeding.derive(seed, seeding.NOISE)) >> 1)
                images.append(self._painted(mask))
        return {"image": torch.stack(images)}

    def _painted(self, mask: Tensor) -> Tensor:
        import torchio as tio

        flat = mask.ndim == 3
        subject = self._then(self._paint(tio.Subject(mask=tio.LabelMap(tensor=mask[..., None] if flat else mask))))
        image: Tensor = subject["image"].data.float().clamp(0, 1)
        return image[..., 0] if flat else image

    def _checked(self, masks: Tensor, count: int) -> Tensor:
        spec = self.condition_fields["mask"]
        highest = (spec.value_range or (0, 0))[1]
        fits = not masks.is_floating_point() and tuple(masks.shape) == (count, *spec.shape)
        if not fits or int(masks.min()) < 0 or int(masks.max()) > highest:
            raise ConfigurationError(
                f"`conditions['mask']` must be whole numbers from 0 to {highest:g} of shape {(count, *spec.shape)}, "
                f"got {masks.dtype} of shape {tuple(masks.shape)}. Give the masks of the data whose field was named."
            )
        return masks.cpu()

    def stored(self) -> Stored:
        """What `save_synthesizer` writes: the limits and the field of the masks.

        Raises:
            ConfigurationError: `then` was given, which is code.
        """
        if self._has_own_transform:
            raise ConfigurationError(
                f"`then` must be left out of a synthesizer that is saved, got {self._then!r}. A folder holds no code. "
                "Save one without `then`, or put the lines that build this one into a function of an importable module "
                "and name that where a saved folder is expected: package.module:factory."
            )
        spec = self.condition_fields["mask"]
        return Stored({"mask": spec.to_json(), "mean": list(self.mean), "std": list(self.std)})

    @classmethod
    def from_stored(
        cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None
    ) -> LabelsToImageSynthesizer:
        """The synthesizer that `stored` describes; it paints on the CPU, in float32, whatever `device` and `dtype`."""
        settings = stored.settings
        return cls(FieldSpec.from_json(settings["mask"]), mean=tuple(settings["mean"]), std=tuple(settings["std"]))

    def __repr__(self) -> str:
        return f"LabelsToImageSynthesizer({self.condition_fields['mask']}, mean={self.mean}, std={self.std})"
