"""TorchIO's noise without its seeding of every global generator: the same numbers, from a generator of its own.

`torchio.Noise` draws its numbers after `torch.manual_seed`. That sets the generators of CUDA and other accelerators,
too, which nobody puts back; it may not be done in a thread; and it takes longer than the noise of an image, because
torch keeps a stack trace for each kind of device that is not in use yet.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torchio as tio

from torchgenaug.samples.random_sources import is_torchio_transform


class OwnNoise(tio.transforms.Noise):  # type: ignore[misc]
    """`torchio.Noise`, by a generator of its own."""

    name = "Noise"  # what the history of a Subject calls it, which looks it up among TorchIO's transforms

    def apply_transform(self, subject: Any) -> Any:
        """Adds noise to the images; `subject` is a copy already."""
        for name, image in self.get_images_dict(subject).items():
            mean, std, seed = (self.get_parameter(each, name) for each in (self.noise_mean, self.noise_std, self.seed))
            noise = torch.randn(image.data.shape, generator=torch.Generator().manual_seed(seed)) * std + mean
            image.set_data(image.data + (-noise if self.invert_transform else noise))
        return subject


class OwnRandomNoise(tio.RandomNoise):  # type: ignore[misc]
    """`torchio.RandomNoise`, which applies `OwnNoise`."""

    name = "RandomNoise"

    def apply_transform(self, subject: Any) -> Any:
        """Draws mean, standard deviation and seed for each image, in TorchIO's order."""
        drawn = {name: self.get_params(self.mean_range, self.std_range) for name in self.get_images_dict(subject)}
        if not drawn:
            return subject
        mean, std, seed = ({name: values[k] for name, values in drawn.items()} for k in range(3))
        return OwnNoise(mean=mean, std=std, seed=seed, **self._get_base_args())(subject)


_OWN = {tio.transforms.Noise: OwnNoise, tio.RandomNoise: OwnRandomNoise}


def with_own_noise(part: Any) -> Any:
    """A transform that draws the same numbers, in which TorchIO's noise leaves torch's global generators alone.

    Looks into what TorchIO composes transforms of. What holds no noise is returned itself; users' classes are left as
    they are.
    """
    if isinstance(part, list | tuple) and type(part) in (list, tuple):
        parts = [with_own_noise(each) for each in part]
        return part if all(new is old for new, old in zip(parts, part, strict=True)) else type(part)(parts)
    if isinstance(part, Mapping) and type(part) is dict:
        pairs = [(with_own_noise(key), with_own_noise(value)) for key, value in part.items()]
        same = all(new[0] is old[0] and new[1] is old[1] for new, old in zip(pairs, part.items(), strict=True))
        return part if same else dict(pairs)
    if not is_torchio_transform(part) or not type(part).__module__.startswith("torchio."):
        return part
    changed = {name: new for name, old in vars(part).items() if (new := with_own_noise(old)) is not old}
    own = _OWN.get(type(part))
    if own is None and not changed:
        return part
    result = copy.copy(part)
    vars(result).update(changed)
    if own is not None:
        result.__class__ = own
    return result
