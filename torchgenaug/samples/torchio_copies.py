"""TorchIO's transforms without the copies that they take of a Subject which is a copy already.

A random transform of TorchIO deep-copies its Subject, and so does the transform with fixed parameters that it applies;
a composition does once more. Of a tensor that is a view, such as a sample of a `TensorDataset`, a deep copy takes the
memory of the whole data set. Where a Subject is built for one call, around a copy of the sample, none is needed.
"""

from __future__ import annotations

import copy
from typing import Any

import torchio as tio

from torchgenaug.samples.torchio_noise import OwnRandomNoise

# Each draws parameters and applies one transform to the whole Subject, with its own `copy`. Others use `copy` in other
# ways: RandomAnisotropy resamples the images in place, Crop returns views.
_APPLY_ONE = frozenset(
    {
        tio.RandomAffine,
        tio.RandomAffineElasticDeformation,
        tio.RandomBiasField,
        tio.RandomBlur,
        tio.RandomElasticDeformation,
        tio.RandomFlip,
        tio.RandomGamma,
        tio.RandomGhosting,
        tio.RandomMotion,
        tio.RandomNoise,
        tio.RandomSpike,
        tio.RandomSwap,
        OwnRandomNoise,
    }
)


def without_copies(part: Any) -> Any:
    """The same transform for a Subject that may be changed; itself where nothing is known about its copies.

    Looks into compositions. What a user's class or another transform of TorchIO copies, it goes on copying.
    """
    kind, changed = type(part), dict[str, Any]()
    if kind is tio.Compose:
        changed = {"transforms": [without_copies(each) for each in part.transforms]}
    elif kind is tio.OneOf:
        changed = {"transforms_dict": {without_copies(each): share for each, share in part.transforms_dict.items()}}
    elif kind not in _APPLY_ONE:
        return part
    result = copy.copy(part)
    vars(result).update(changed, copy=False)
    return result
