"""`Segmentation`: trains a small U-Net on images and masks, and scores its Dice coefficient and Hausdorff distance.

References:
    Dice (1945). Measures of the amount of ecologic association between species. Ecology 26, 297.
    Huttenlocher, Klanderman, Rucklidge (1993). Comparing images using the Hausdorff distance. IEEE TPAMI 15, 850.
    Isensee, Jaeger, Kohl, Petersen, Maier-Hein (2021). nnU-Net: a self-configuring method for deep learning-based
    biomedical image segmentation. Nature Methods 18, 203 (the loss: cross-entropy plus soft Dice over the batch).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.metrics.labels.hausdorff import hausdorff
from torchgenaug.study.label_task import LabelTask
from torchgenaug.study.networks import SmallUNet


@dataclass(frozen=True)
class Segmentation(LabelTask):
    """A task: `train`, and `score` or `measures`, fit `Study`. Samples are ``(image, mask)`` or dicts of these.

    Settings are those of `LabelTask`.
    """

    target: ClassVar[str] = "mask"
    small_network = SmallUNet

    def train(self, dataset: Any, seed: int, steps: int) -> nn.Module:
        """Trains a network on `segmentation_loss` for exactly `steps` optimizer steps."""
        return self._training.fit(self._build, segmentation_loss, dataset, seed=seed, steps=steps)

    def score(self, model: nn.Module, dataset: Any) -> float:
        """Mean over classes but the background of 2|A∩B| / (|A|+|B|), over all pixels of the data set: [0, 1].

        A class that neither masks nor predictions hold is left out; 0 where that leaves none.
        """
        present = [each for each in self.dice(model, dataset) if not math.isnan(each)]
        return sum(present) / len(present) if present else 0.0

    def dice(self, model: nn.Module, dataset: Any) -> list[float]:
        """The same of each class but the background; NaN for one that neither masks nor predictions hold."""
        both, sizes = torch.zeros(self.num_classes), torch.zeros(self.num_classes)
        for logits, masks in self._training.outputs(model, dataset):
            guess = logits.argmax(1, keepdim=True)
            for each in range(1, self.num_classes):
                a, b = guess == each, masks == each
                both[each] += float((a & b).sum())
                sizes[each] += float(a.sum() + b.sum())
        return [float(value) for value in (2 * both / sizes)[1:]]

    def measures(self, model: nn.Module, dataset: Any) -> dict[str, float]:
        """``mean Dice``, that of `score`, and ``-Hausdorff 95``, in pixels and negative, so that larger is better.

        The distance is the mean over images and classes that are there; see `torchgenaug.metrics` for a class that is
        missed.
        """
        classes = list(range(1, self.num_classes))
        found = [
            hausdorff(masks, logits.argmax(1, keepdim=True), classes, percentile=95)
            for logits, masks in self._training.outputs(model, dataset)
        ]
        return {"mean Dice": self.score(model, dataset), "-Hausdorff 95": -float(torch.cat(found).nanmean())}

    def probabilities(self, model: nn.Module, dataset: Any) -> Tensor:
        """(samples, classes, *spatial) of a data set; its masks do not count."""
        return torch.cat([logits.softmax(1).cpu() for logits, _ in self._training.outputs(model, dataset)])


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy plus 1 minus the soft Dice coefficient, the mean over all classes but the background.

    With cross-entropy alone a small lesion counts as little as its pixels: networks that found none stayed that way
    for hundreds of steps.

    Args:
        logits: (batch, classes, *spatial).
        masks: (batch, 1, *spatial) int64.
    """
    found = logits.softmax(1)[:, 1:]
    true = functional.one_hot(masks[:, 0], logits.shape[1]).movedim(-1, 1)[:, 1:].to(found)
    axes = (0, *range(2, found.ndim))
    # 1 pixel is added to both, so that a class that the batch does not have has a gradient, too.
    dice = (2 * (found * true).sum(axes) + 1) / (found.sum(axes) + true.sum(axes) + 1)
    return functional.cross_entropy(logits, masks[:, 0]) + 1 - dice.mean()
