"""`RealSamples`: images with classes or masks of `TrainingData` as a data set that states its ids and patients."""

from __future__ import annotations

from torch import Tensor
from torch.utils.data import Dataset

from torchgenaug.recipes.data.training_data import TrainingData


class RealSamples(Dataset[dict[str, Tensor]]):
    """Samples ``{"image": (channels, *spatial), "label": ()}``, with `ids` and `patients` to be compared.

    Args:
        data: with a class, or a mask, for each image.
        target: ``"label"``, or ``"mask"`` (1, *spatial) in its place.
    """

    def __init__(self, data: TrainingData, target: str = "label") -> None:
        self.training_data, self.ids, self.patients, self.target = data, data.ids, data.patients, target

    def __len__(self) -> int:
        return len(self.training_data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.training_data.samples[index]
        return {"image": sample["image"], self.target: sample[self.target]}
