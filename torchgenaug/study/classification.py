"""`Classification`: trains a small network on images and classes, and scores its accuracy and further measures.

References:
    Brodersen, Ong, Stephan, Buhmann (2010). The balanced accuracy and its posterior distribution. ICPR.
    Hand, Till (2001). A simple generalisation of the area under the ROC curve for multiple class classification
    problems. Machine Learning 45, 171. (AUC is the mean over classes of one against the rest, which is simpler still.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.metrics.auc import roc_auc
from torchgenaug.study.label_task import LabelTask
from torchgenaug.study.networks import SmallClassifier


@dataclass(frozen=True)
class Classification(LabelTask):
    """A task: `train`, and `score` or `measures`, fit `Study`. Samples are ``(image, label)`` or dicts of these.

    Settings are those of `LabelTask`, and:

    Attributes:
        rare: classes of the measure ``rare recall``; empty: without it.
    """

    batch_size: int = 32
    rare: tuple[int, ...] = ()

    target: ClassVar[str] = "label"
    small_network = SmallClassifier

    def train(self, dataset: Any, seed: int, steps: int) -> nn.Module:
        """Trains a network for exactly `steps` optimizer steps, going over the data as often as needed.

        An attribute ``class_weights`` (classes,) of the data set weights the loss; see `balanced_loss`.
        """
        weights = getattr(dataset, "class_weights", None)

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            return functional.cross_entropy(logits, labels, None if weights is None else weights.to(logits))

        return self._training.fit(self._build, loss, dataset, seed=seed, steps=steps)

    def score(self, model: nn.Module, dataset: Any) -> float:
        """Accuracy, the fraction of samples whose class is found: [0, 1]."""
        logits, labels = self._all(model, dataset)
        return float((logits.argmax(1) == labels).float().mean())

    def measures(self, model: nn.Module, dataset: Any) -> dict[str, float]:
        """``accuracy``, ``balanced accuracy``, ``AUC``, ``sensitivity``, ``specificity``, all in [0, 1].

        With two classes the last three are those of class 1; with more, means over the classes that occur, each against
        the rest. What is undefined, with one class alone, is NaN. ``rare recall``: the mean over the classes `rare`.
        """
        logits, labels = self._all(model, dataset)
        found, probabilities = logits.argmax(1), logits.softmax(1)
        present = sorted(set(labels.tolist()))
        recalls = {each: float((found == each)[labels == each].float().mean()) for each in present}
        counted = [each for each in present if self.num_classes != 2 or each == 1] if len(present) > 1 else []
        areas = [roc_auc(probabilities[:, each], labels == each) for each in counted]
        specificities = [float((found != each)[labels != each].float().mean()) for each in counted]
        return {
            "accuracy": float((found == labels).float().mean()),
            "balanced accuracy": _mean(list(recalls.values())),
            "AUC": _mean(areas),
            "sensitivity": _mean([recalls[each] for each in counted]),
            "specificity": _mean(specificities),
            **({"rare recall": _mean([recalls[each] for each in self.rare if each in recalls])} if self.rare else {}),
        }

    def probabilities(self, model: nn.Module, dataset: Any) -> Tensor:
        """(samples, classes) of a data set; its labels do not count."""
        return self._all(model, dataset)[0].softmax(1)

    def _all(self, model: nn.Module, dataset: Any) -> tuple[Tensor, Tensor]:
        pairs = list(self._training.outputs(model, dataset, 256))
        return torch.cat([logits for logits, _ in pairs]).cpu(), torch.cat([labels for _, labels in pairs]).cpu()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
