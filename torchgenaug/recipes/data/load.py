"""`load_data`: training data by name: an embedded set, a folder, or a factory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torchgenaug.errors import ConfigurationError, EmptyDatasetError
from torchgenaug.recipes.data.training_data import Split, TrainingData


def load_data(name: str, *, split: Split = "train", size: int | Sequence[int] | None = None) -> TrainingData:
    """Training data by name.

    Args:
        name: ``"digits"``, ``"brain"``, ``"brain-3d"``, ``"brain-t1-t2"`` or ``"nuclei"``; a folder of images or
            volumes, see `torchgenaug.recipes.data.folder.from_folder`; or ``"package.module:factory"``, see
            `torchgenaug.recipes.data.factory.from_factory`. Write ``./digits`` for a folder of such a name.
        split: ``"train"``, or ``"held_out"`` of an embedded set; the others are split by `TrainingData.split`.
        size: spatial size: one number for a square or a cube, or one per axis. Images are scaled with their
            proportions, antialiased, and padded; masks take the nearest value. None: as the data are, sizes rounded
            up to multiples of 8.

    Raises:
        ConfigurationError: an unknown name, or data that cannot be trained on.
        EmptyDatasetError: no samples.
        MissingExtraError: the package that holds or reads the data is not installed.
    """
    from torchgenaug.recipes.data import embedded

    loader = embedded.LOADERS.get(name)
    if loader is not None:
        data = embedded.resized(loader(split), size)
        if not len(data):
            raise EmptyDatasetError(f"{name!r} has no samples in split {split!r}.")
        return data
    folder = Path(name).expanduser()
    if split != "train" and (folder.exists() or ":" in name):
        raise ConfigurationError(
            f"`split` must be 'train' for data of your own, got {split!r} for {name!r}. "
            "Part them: load_data(…).split()."
        )
    if folder.is_dir():
        from torchgenaug.recipes.data.folder import from_folder

        return from_folder(folder, size)
    if ":" in name and not folder.exists():
        from torchgenaug.recipes.data.factory import from_factory

        return from_factory(name, size)
    raise ConfigurationError(
        f"DATA must be one of {', '.join(embedded.LOADERS)}, a folder, or package.module:factory, got {name!r}, which "
        f"is {'a file' if folder.exists() else 'none of them'}. Check the path."
    )
