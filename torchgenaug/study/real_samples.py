"""`RealSamples`: images and classes of `TrainingData` as a data set that states its ids and patients."""

from __future__ import annotations

from torch import Tensor
from torch.utils.data import Dataset

from torchgenaug.recipes.data.training_data import TrainingData


class RealSamples(Dataset[dict[str, Tensor]]):
    """Samples ``{"image": (channels, *spatial), "label": ()}``, with `ids` and `patients` to be compared.

    Args:
        data: with a class for each image.
    """

    def __init__(self, data: TrainingData) -> None:
        self.training_data, self.ids, self.patients = data, data.ids, data.patients

    def __len__(self) -> int:
        return len(self.training_data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.training_data.samples[index]
        return {"image": sample["image"], "label": sample["label"]}
