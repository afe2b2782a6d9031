"""Whether translations show what they should: PSNR and SSIM against the true images of the same held-out sources.

Measures of sets are blind to a translator whose images look real and show something else than their sources.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torchgenaug.errors import MissingExtraError, SmallSampleWarning
from torchgenaug.metrics.measurement import Measurement
from torchgenaug.metrics.pairs.compare import compare_pairs
from torchgenaug.metrics.pairs.differences import PSNR
from torchgenaug.metrics.pairs.measure import PairMeasure
from torchgenaug.metrics.pairs.structure import SSIM
from torchgenaug.trust.report.image_set import spread
from torchgenaug.trust.report.label_intensity import sample_of

_MOST, _FEWEST = 300, 2
_SAME = 0.01  # of the range of sources: what rounding to 8 bits changes is less


def translation_measures(
    synthetic: Sequence[Any], held_out: Any, value_range: tuple[float, float], seed: int
) -> dict[str, Measurement]:
    """``PSNR, translated`` and ``SSIM, translated`` of the images whose ``source`` is that of a held-out sample.

    Their `ceiling` is the value against the image of another source: what a model reaches that ignores its source.

    Args:
        synthetic: data sets of samples with ``image`` and ``source``; others count as empty.
        held_out: samples with ``image`` and ``source``.
        value_range: intensities of the images that are black and white.
        seed: of the bootstrap.

    Returns:
        Empty without two such images. SSIM needs the package torchmetrics and 11 pixels along each axis.
    """
    known = _columns(held_out)
    if known is None:
        return {}
    sources, truth = known
    references, images = [], []
    for dataset in synthetic:
        found = _columns(dataset)
        if found is None or found[0].shape[1:] != sources.shape[1:] or found[1].shape[1:] != truth.shape[1:]:
            continue
        width = float(sources.max() - sources.min())
        apart = torch.cdist(found[0].flatten(1), sources.flatten(1), p=1) / sources[0].numel()
        distance, row = apart.min(1)
        same = distance <= _SAME * width
        references.append(truth[row[same]])
        images.append(found[1][same])
    if sum(map(len, images)) < _FEWEST:
        return {}
    true, made = (torch.cat(each).clamp(*value_range) for each in (references, images))
    results: dict[str, Measurement] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSampleWarning)  # stands in each result's cautions
        for measure in _fitting(min(true.shape[2:])):
            try:
                compared = compare_pairs(true, made, [measure], value_range=value_range, seed=seed)
            except MissingExtraError:
                continue
            results |= {f"{name}, translated": result for name, result in compared.items()}
    return results


def _fitting(side: int) -> list[PairMeasure]:
    return [measure for measure in (PSNR, SSIM) if measure.smallest_side <= side]


def _columns(dataset: Any) -> tuple[Tensor, Tensor] | None:
    """Sources and images of at most `_MOST` samples; None where a sample lacks one of them."""
    columns: tuple[list[Tensor], list[Tensor]] = ([], [])
    for row in spread(len(dataset), _MOST):
        sample = sample_of(dataset, row, ("image", "source"))
        if sample is None:
            return None
        for column, name in zip(columns, ("source", "image"), strict=True):
            column.append(torch.as_tensor(sample[name]).float())
    return (torch.stack(columns[0]), torch.stack(columns[1])) if columns[0] else None
