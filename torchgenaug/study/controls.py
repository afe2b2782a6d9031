"""Controls that use no generator: the user's own transforms, pseudo-labels, retrieved real images, other translations.

An arm with synthetic data has to be better than the best method that uses the same extra data without a generator.

References:
    Lee (2013). Pseudo-label: the simple and efficient semi-supervised learning method for deep neural networks. ICML
    Workshop on Challenges in Representation Learning.
    Geng et al. (2024). The unmet promise of synthetic training images: using retrieved real images performs better.
    NeurIPS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from torchgenaug.conditions.deform import described
from torchgenaug.mixing.dataset.dataset import SyntheticMixDataset
from torchgenaug.samples.random_state import random_state_restored
from torchgenaug.study.arms import Arm, describe, mixed, per_split
from torchgenaug.study.splits import Split
from torchgenaug.study.transforms import BatchTransform, BatchTransformed

_SIDE = 8  # of the images that `retrieved` compares


def real_sample_transformed(
    transform: Callable[[Any], Any], *, fields: Sequence[str] | None = None, name: str = "real, own transforms"
) -> Arm:
    """A control: real samples under a TorchIO transform, or any function sample → sample, drawn anew in each epoch.

    Args:
        transform: see `SyntheticMixDataset`.
        fields: names of the positions of tuple samples.
        name: of the arm.
    """

    def build(split: Split, seed: int) -> SyntheticMixDataset:
        return SyntheticMixDataset(split.train, split.train, 0.0, seed=seed, fields=fields, transform=transform)

    digest = hashlib.sha256(described(transform).encode()).hexdigest()[:12]
    settings = {"transform": f"{describe(transform)} {digest}"}
    return Arm(name, "control", build, lambda split: split.train, settings)


def pseudo_labelled(
    unlabelled: Callable[[Split], Any],
    train: Callable[[Any, int, int], Any],
    predict: Callable[[Any, Any], Tensor],
    steps: int,
    *,
    ratio: float = 0.5,
    confidence: float = 0.9,
    transform: BatchTransform | None = None,
    keys: tuple[str, str] = ("image", "label"),
    name: str = "pseudo-labels",
) -> Arm:
    """A control: a network trained on the real samples labels further images, and confident ones are mixed in.

    The training of that first network comes before the counted steps, as that of a generator does.

    Args:
        unlabelled: `Split` → map-style data set of dicts or tuples; only their images are used.
        train: as that of the study, for example ``Classification(10).train``.
        predict: (model, data set) → probabilities (samples, classes, *spatial), for example
            ``Classification(10).probabilities``.
        steps: of the first network.
        ratio: fraction of pseudo-labelled samples.
        confidence: least probability of the label, for masks on average over the image. Where fewer images than real
            ones reach it, as many as those, the most confident ones.
        transform: of all samples alike, in both trainings.
        keys: names of the image and of what is predicted, as in the real samples; for tuples their first two positions.
        name: of the arm.
    """

    def label(split: Split, seed: int) -> list[Any]:
        with random_state_restored():
            torch.manual_seed(seed)
            first = train(_under(split.train, transform, seed), seed, steps)
            data = unlabelled(split)
            found = predict(first, data)
        certain, classes = found.max(1)
        sure = certain.flatten(1).mean(1) if certain.ndim > 1 else certain
        enough = min(len(split.train), len(sure))
        least = min(confidence, float(sure.sort(descending=True).values[enough - 1]))
        is_dict = hasattr(split.train[0], "keys")
        samples: list[Any] = []
        for row in (sure >= least).nonzero().flatten().tolist():
            image, guess = _image(data[row], keys[0]), classes[row] if classes.ndim == 1 else classes[row][None]
            samples.append({keys[0]: image, keys[1]: guess} if is_dict else (image, guess))
        return samples

    def build(split: Split, seed: int) -> Any:
        labelled: Any = label(split, seed)
        mix = SyntheticMixDataset(split.train, labelled, ratio, seed=seed, fields=keys)
        return mix if transform is None else BatchTransformed(mix, transform)

    settings = {
        "ratio": ratio,
        "confidence": confidence,
        "steps": steps,
        "unlabelled": describe(unlabelled),
        "transform": None if transform is None else repr(transform),
    }
    return Arm(name, "control", build, unlabelled, settings)


def retrieved(
    pool: Callable[[Split], Any],
    *,
    ratio: float = 0.5,
    neighbours: int = 5,
    transform: BatchTransform | None = None,
    keys: tuple[str, str] = ("image", "label"),
    name: str = "retrieved real images",
) -> Arm:
    """A control: for each real sample the real images most like it in the generator's training data, with its label.

    For generators that saw more images than the downstream network (Geng et al., 2024). Likeness is the cosine between
    images averaged to 8 pixels a side, each centred.

    Args:
        pool: `Split` → map-style data set, what the generator was trained on; only its images are used.
        ratio: fraction of retrieved samples.
        neighbours: images for each real sample.
        transform: of all samples alike.
        keys: see `pseudo_labelled`; the second is copied from the real sample.
        name: of the arm.
    """

    def find(split: Split) -> list[Any]:
        data = pool(split)
        wanted = _coarse([_image(split.train[k], keys[0]) for k in range(len(split.train))])
        known = _coarse([_image(data[k], keys[0]) for k in range(len(data))])
        near = (wanted @ known.T).topk(min(neighbours, len(data)), dim=1).indices
        samples: list[Any] = []
        for row, places in enumerate(near.tolist()):
            sample = split.train[row]
            for place in places:
                image = _image(data[place], keys[0])
                samples.append({**sample, keys[0]: image} if hasattr(sample, "keys") else (image, *sample[1:]))
        return samples

    settings = {"pool": describe(pool), "neighbours": neighbours}
    return _as_control(mixed(per_split(find), ratio, fields=keys, transform=transform, name=name), settings)


def translated(
    translate: Callable[[Split, Tensor], Tensor],
    *,
    ratio: float = 0.5,
    field: str = "image",
    fields: Sequence[str] = ("image", "mask"),
    transform: BatchTransform | None = None,
    name: str = "look-up table",
) -> Arm:
    """A control: the real samples with their images sent through a function, such as an intensity look-up table.

    Args:
        translate: (`Split`, images (samples, channels, *spatial)) → images of the same shape.
        ratio: fraction of translated samples.
        field: the image, in samples that are dicts; of tuples the first position.
        fields: as in `SyntheticMixDataset`.
        transform: of all samples alike.
        name: of the arm.
    """

    def build(split: Split) -> list[Any]:
        samples = [split.train[k] for k in range(len(split.train))]
        images = translate(split, torch.stack([_image(sample, field) for sample in samples]))
        return [
            {**sample, field: image} if hasattr(sample, "keys") else (image, *sample[1:])
            for sample, image in zip(samples, images, strict=True)
        ]

    settings = {"translate": describe(translate)}
    return _as_control(mixed(per_split(build), ratio, fields=fields, transform=transform, name=name), settings)


def _as_control(arm: Arm, settings: dict[str, Any]) -> Arm:
    return Arm(arm.name, "control", arm.build, arm.source, {**arm.settings, **settings})


def _under(data: Any, transform: BatchTransform | None, seed: int) -> Any:
    return data if transform is None else BatchTransformed(SyntheticMixDataset(data, data, 0.0, seed=seed), transform)


def _image(sample: Any, key: str) -> Tensor:
    image: Tensor = sample[key] if hasattr(sample, "keys") else sample[0]
    return image


def _coarse(images: Sequence[Tensor]) -> Tensor:
    """(images, features) of length 1."""
    stacked = torch.stack(list(images)).float()
    pool: Any = functional.adaptive_avg_pool2d if stacked.ndim == 4 else functional.adaptive_avg_pool3d
    flat = pool(stacked, _SIDE).flatten(1)
    return functional.normalize(flat - flat.mean(1, keepdim=True), dim=1)
