"""What a training run holds out to judge the model by, and both parts as the family sees them."""

from __future__ import annotations

import contextlib

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.recipes.build import describe_family, family_view
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.options import Options
from torchgenaug.seeding import derive

_HELD_OUT = 0.1
_DRAWS = 50


def split_for(family: str, data: TrainingData, options: Options, seed: int = 0) -> tuple[TrainingData, TrainingData]:
    """Nine tenths to train on and a tenth held out, of the samples that `family` can use, as it sees them.

    Drawn again, up to fifty times, where one part lacks what the family needs, such as a second class.

    Raises:
        ConfigurationError: no draw has what the family needs, or nothing is left to train on.
        EmptyDatasetError: the family can use none of the samples.
    """
    usable = describe_family(family).usable
    data = data if usable is None else usable(data, options)
    train, held_out = data.split(_HELD_OUT, seed)
    try:
        return family_view(family, train, options), family_view(family, held_out, options)
    except ConfigurationError:
        for draw in range(1, _DRAWS):
            train, held_out = data.split(_HELD_OUT, int(derive(seed, draw)) >> 1)
            with contextlib.suppress(ConfigurationError):
                return family_view(family, train, options), family_view(family, held_out, options)
        raise


def given_split(
    family: str, data: TrainingData, held_out: TrainingData, options: Options
) -> tuple[TrainingData, TrainingData]:
    """Both parts of the user's own split, as `family` sees them.

    Raises:
        ConfigurationError: a part lacks what the family needs; a note says so of the one held out.
        EmptyDatasetError: likewise.
    """
    train = family_view(family, data, options)
    try:
        return train, family_view(family, held_out, options)
    except (ConfigurationError, EmptyDatasetError) as error:
        error.add_note(
            f"These are the {len(held_out)} held-out samples, by which the model is to be judged. Hold out others "
            "(--seed) or more (--held-out)."
        )
        raise
