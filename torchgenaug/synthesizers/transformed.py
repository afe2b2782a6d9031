"""`TransformedSynthesizer`: variants of real samples as a sequence, so that classic augmentation can be rendered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.contracts import Conditions
from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.samples.layout import PARENT, SampleLayout
from torchgenaug.samples.random_sources import is_torchio_transform
from torchgenaug.samples.seeded_transform import SeededTransform
from torchgenaug.synthesizers.parts.checks import checked_fingerprint
from torchgenaug.types import Batch, FieldSpec


class TransformedSynthesizer:
    """Real samples, each transformed with random numbers of its own seed.

    An elastic deformation of a 96³ volume takes half a second, a render of it is read in a millisecond: transform every
    real sample n times, once, and read the variants in each epoch. Rendered with a `RealFields` as conditions, which
    goes through the data set again and again, ``count = n * len(dataset)`` samples are exactly n variants of each, and
    ``parent`` says of which.

    Deterministic: a variant depends on its seed and its real sample alone. Picklable if the transform is.

    Args:
        transform: a TorchIO transform, or a function dict of fields → dict of fields. Images and masks move together,
            as in `torchgenaug.SyntheticMixDataset`. Volumes have a spacing of 1 mm: fields are voxels without affine.
        originals: where the real samples come from: the conditions of the same sequence, for example
            ``RealFields(dataset, ["image", "mask"])``.
        fingerprint: any text that names the transform and its settings; change it whenever the transform changes.
        value_range: smallest and largest value of the transformed intensity fields, where there are such limits (a
            lossy ``dtype`` of `render_shards` needs them); what lies outside is an error then. None for no limits.

    Attributes:
        fields: those of `originals` without ``parent``, with the shapes and dtypes that they have once transformed.
        fingerprint: sha256 over the text.

    Raises:
        ConfigurationError: no callable, no fingerprint, originals without fields; fields of two axes beside a TorchIO
            transform, which would not be moved with the image.
        FieldMismatchError: a transform that drops or adds fields, or gives variants of different shapes.

    Example:
        >>> from torchgenaug import RealFields, SyntheticSequence
        >>> real = [{"image": torch.full((1, 4, 4), float(k))} for k in range(3)]
        >>> def noisy(sample):
        ...     return {"image": sample["image"] + torch.rand(1, 4, 4)}
        >>> originals = RealFields(real, "image")
        >>> sequence = SyntheticSequence(TransformedSynthesizer(noisy, originals, fingerprint="noise 1"), originals)
        >>> batch = sequence.batch(range(6))  # two variants of each
        >>> torch.equal(batch["image"].floor()[:, 0, 0, 0].long(), batch["parent"])
        True
    """

    def __init__(
        self,
        transform: Callable[[Any], Any],
        originals: Conditions,
        *,
        fingerprint: str,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        declared = getattr(originals, "fields", None)
        if not isinstance(declared, Mapping) or not declared.keys() - {PARENT}:
            raise ConfigurationError(
                f"`originals` must be conditions that state their fields, got {type(originals).__name__}. "
                "Use RealFields(dataset, ['image'])."
            )
        fingerprint = checked_fingerprint(fingerprint, "transform", "'affine 10 degrees, elastic 7, version 1'")
        specs = {name: spec for name, spec in declared.items() if name != PARENT}
        flat = [name for name, spec in specs.items() if len(spec.shape) == 2]
        if flat and is_torchio_transform(transform):
            raise ConfigurationError(
                f"`originals` must hold images and masks of shape (channels, *spatial), got {flat} with two axes. They "
                "would stay where they are while the image moves. Give them a first axis in the data set."
            )
        self.names = tuple(specs)
        self.fingerprint = hashlib.sha256(f"transformed\n{fingerprint}".encode()).hexdigest()
        empty = {name: torch.zeros(spec.shape, dtype=spec.dtype) for name, spec in specs.items()}
        kinds = {name: spec.kind for name, spec in specs.items()}
        self._transform = SeededTransform(transform, SampleLayout.of(empty), kinds)
        first = originals([0])
        moved = self._transform([{name: first[name][0] for name in self.names}], np.zeros(1, np.uint64))[0]
        self._check_names(moved)
        self.fields: Mapping[str, FieldSpec] = {
            name: _spec(moved[name], specs[name], value_range) for name in self.names
        }

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """The samples in `conditions`, each transformed by its seed."""
        if conditions is None or any(name not in conditions for name in self.names):
            raise ConfigurationError(
                f"`conditions` must hold the fields {list(self.names)} of the real samples, got "
                f"{None if conditions is None else sorted(conditions)}. Give the sequence the same originals: "
                "SyntheticSequence(synthesizer, originals)."
            )
        samples = [{name: conditions[name][k] for name in self.names} for k in range(len(seeds))]
        # Hashed, because torch's generator takes only the lower half of a seed: all of it must matter.
        moved = self._transform(samples, seeding.derive(seeding.TRANSFORM, np.array(seeds, np.uint64)))
        for k, sample in enumerate(moved):
            self._check_names(sample)
            for name, spec in self.fields.items():
                if tuple(sample[name].shape) != spec.shape:
                    raise FieldMismatchError(
                        f"`transform` must give {name!r} the shape {spec.shape} every time, got "
                        f"{tuple(sample[name].shape)} for seed {seeds[k]}. Samples of one render have one shape. Add a "
                        "crop or pad to the transform, for example tio.CropOrPad((64, 64, 1))."
                    )
        return {name: torch.stack([sample[name] for sample in moved]) for name in self.names}

    def _check_names(self, sample: Any) -> None:
        if not isinstance(sample, Mapping) or set(sample) != set(self.names):
            got = sorted(sample) if isinstance(sample, Mapping) else type(sample).__name__
            raise FieldMismatchError(
                f"`transform` must return the fields {sorted(self.names)}, got {got}. Return the whole sample."
            )

    def __repr__(self) -> str:
        return f"TransformedSynthesizer({self._transform.transform!r}, {list(self.names)})"


def _spec(value: Tensor, before: FieldSpec, value_range: tuple[float, float] | None) -> FieldSpec:
    limits = value_range if before.kind == "intensity" else None
    return FieldSpec(tuple(value.shape), value.dtype, kind=before.kind, value_range=limits)
