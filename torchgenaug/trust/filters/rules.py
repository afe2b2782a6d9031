"""Rules that score each sample of a batch by itself; higher is better."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.trust.copies.detector import CopyDetector
from torchgenaug.trust.filters.identity import digest_of, weights_digest
from torchgenaug.types import Batch

Predictor = Callable[[Tensor], Tensor]


@runtime_checkable
class Rule(Protocol):
    """A score per sample. Must be deterministic, and must not depend on the other samples of the batch."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal sha256 over everything that decides a score."""
        ...

    def __call__(self, batch: Batch) -> Tensor:
        """Scores of a batch: (n,) float, higher is better; or (n,) bool, whether to keep a sample."""
        ...


class ClassifierConfidence:
    """Probability of the intended class under a classifier, or the mean over several.

    Args:
        classifiers: networks image → logits (n, classes); one, or several whose probabilities are averaged. Networks
            are put into evaluation mode while they are used.
        field: the image.
        label: the intended class.

    References:
        Xue et al. (2019). Synthetic augmentation and feature-based filtering for improved cervical histopathology image
        classification. MICCAI.
    """

    def __init__(self, classifiers: Predictor | Sequence[Predictor], *, field: str = "image", label: str = "label"):
        several = isinstance(classifiers, Sequence | nn.ModuleList)
        self.classifiers: list[Predictor] = list(classifiers) if several else [classifiers]  # type: ignore[arg-type,list-item]
        self.field, self.label = field, label
        if not self.classifiers or not all(map(callable, self.classifiers)):
            raise ConfigurationError(
                f"`classifiers` must be at least one network or function image -> logits, got {classifiers!r}. Load "
                "weights first: network.load_state_dict(torch.load(path, weights_only=True))."
            )

    @property
    def fingerprint(self) -> str:
        """sha256 over the weights and the settings."""
        return rule_digest("classifier confidence", self.field, self.label, *map(weights_of, self.classifiers))

    def __call__(self, batch: Batch) -> Tensor:
        """(n,) in [0, 1]."""
        images, labels = column(batch, self.field), column(batch, self.label)
        each = [predict(network, images, "(n, classes)", 2).softmax(1) for network in self.classifiers]
        probabilities = torch.stack(each).mean(0)
        wanted = labels.to(probabilities.device).long().view(-1, 1)
        if len(wanted) and not 0 <= int(wanted.min()) <= int(wanted.max()) < probabilities.shape[1]:
            raise ConfigurationError(
                f"`classifiers` must know the classes of {self.label!r}, {int(wanted.min())} to {int(wanted.max())}, "
                f"got logits of {probabilities.shape[1]} classes. The intended class has no probability. Use a "
                "classifier of these classes."
            )
        return probabilities.gather(1, wanted)[:, 0]


class DiscriminatorScore:
    """What a discriminator gives: higher is more real.

    Args:
        discriminator: network image → (n,) or (n, 1, …) scores; patches are averaged.
        field: the image.
    """

    def __init__(self, discriminator: Predictor, *, field: str = "image") -> None:
        self.discriminator, self.field = discriminator, field

    @property
    def fingerprint(self) -> str:
        """sha256 over the weights and the settings."""
        return rule_digest("discriminator", self.field, weights_of(self.discriminator))

    def __call__(self, batch: Batch) -> Tensor:
        """(n,) scores."""
        scores = predict(self.discriminator, column(batch, self.field), "(n,) or (n, 1, …)")
        return scores.reshape(len(scores), -1).mean(1)


class SegmentationAgreement:
    """Dice of the mask that a segmenter finds in the image with the mask that comes with it.

    The mean over the classes above 0 that are in either; 1 where both are empty.

    Args:
        segmenter: network image → logits (n, classes, *spatial).
        field: the image.
        mask: its mask, (n, 1, *spatial) or (n, *spatial) integers.
    """

    def __init__(self, segmenter: Predictor, *, field: str = "image", mask: str = "mask") -> None:
        self.segmenter, self.field, self.mask = segmenter, field, mask

    @property
    def fingerprint(self) -> str:
        """sha256 over the weights and the settings."""
        return rule_digest("segmentation agreement", self.field, self.mask, weights_of(self.segmenter))

    def __call__(self, batch: Batch) -> Tensor:
        """(n,) in [0, 1]."""
        images, masks = column(batch, self.field), column(batch, self.mask)
        logits = predict(self.segmenter, images, "(n, classes, *spatial)", images.ndim)
        found = logits.argmax(1).flatten(1)
        mask = masks.to(found.device).reshape(len(found), -1)
        if mask.shape != found.shape:
            raise ConfigurationError(
                f"`segmenter` must return one class per pixel of {self.mask!r}, {tuple(batch[self.mask].shape)}, got "
                f"logits {tuple(logits.shape)}. Their overlap is not defined. Resize the logits inside the segmenter."
            )
        total, counted = torch.zeros(len(found), device=found.device), torch.zeros(len(found), device=found.device)
        for value in range(1, logits.shape[1]):
            one, other = found == value, mask == value
            size = (one.sum(1) + other.sum(1)).float()
            total += torch.where(size > 0, 2 * (one & other).sum(1) / size.clamp(min=1), torch.zeros_like(size))
            counted += size > 0
        return torch.where(counted > 0, total / counted.clamp(min=1), torch.ones_like(total))


class DistanceToCopies:
    """The p-value of a `CopyDetector`: small where a sample looks like a copy of a training image.

    Args:
        detector: calibrated on real images.
        field: the image.
        label: its class, where the detector compares within classes.
    """

    def __init__(self, detector: CopyDetector, *, field: str = "image", label: str | None = None) -> None:
        self.detector, self.field, self.label = detector, field, label

    @property
    def fingerprint(self) -> str:
        """sha256 over the detector and the settings."""
        return rule_digest("copies", self.field, str(self.label), self.detector.fingerprint)

    def __call__(self, batch: Batch) -> Tensor:
        """(n,) in (0, 1]."""
        labels = None if self.label is None else column(batch, self.label).cpu().long()
        return torch.from_numpy(self.detector(column(batch, self.field).cpu(), labels).p_value)


def column(batch: Batch, name: str) -> Tensor:
    """A field of a batch.

    Raises:
        ConfigurationError: the samples have no such field.
    """
    if name not in batch:
        raise ConfigurationError(
            f"A rule must name a field of the samples ({', '.join(sorted(batch))}), got {name!r}. Nothing was scored. "
            "Name the field when you build the rule: field='image'."
        )
    return batch[name]


def predict(network: Predictor, images: Tensor, wanted: str, axes: int | None = None) -> Tensor:
    """What a network gives in evaluation mode, without gradients; its mode and device stay as they are.

    Args:
        network: is called with the images.
        images: (n, channels, *spatial).
        wanted: the shape that it must return, for messages.
        axes: how many axes that has; None: one or more.

    Raises:
        ConfigurationError: it returns something else.
    """
    try:
        out = _run(network, images)
    except Exception as error:
        error.add_note(f"It was raised by a network of a rule, for images {tuple(images.shape)}.")
        raise
    fits = isinstance(out, Tensor) and out.ndim and len(out) == len(images) and axes in (None, out.ndim)
    if not fits:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ConfigurationError(
            f"A network of a rule must return a tensor {wanted}, got {got} for {len(images)} images. Nothing was "
            "scored. Wrap it in a function that returns one."
        )
    return out.float()


def _run(network: Predictor, images: Tensor) -> Tensor:
    if not isinstance(network, nn.Module):
        with torch.no_grad():
            return network(images)
    parameter = next(network.parameters(), None)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            out: Tensor = network(images if parameter is None else images.to(parameter.device, parameter.dtype))
        return out
    finally:
        for module, training in modes:
            module.training = training


def weights_of(network: Predictor) -> str:
    """sha256 over the weights of a network; of any other function see `digest_of`."""
    return weights_digest(network) if isinstance(network, nn.Module) else digest_of(network)


def rule_digest(*parts: str) -> str:
    """sha256 over texts."""
    return hashlib.sha256("\n".join(["rule", *parts]).encode()).hexdigest()
