"""How near translated images are to the true ones: PSNR and SSIM of held-out pairs.

A set of translations may look like real images as a set while each shows the wrong anatomy or contrast. Pairs can tell,
where `source` and `image` of a held-out sample show the same thing.

References:
    Wang, Bovik, Sheikh, Simoncelli (2004). Image quality assessment: from error visibility to structural similarity.
        IEEE Trans. Image Process. 13, 600 (SSIM, by torchmetrics).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from torchgenaug.contracts import Synthesizer
from torchgenaug.errors import MissingExtraError
from torchgenaug.metrics.pairs.differences import peak_signal_to_noise_ratio
from torchgenaug.metrics.pairs.structure import structural_similarity
from torchgenaug.recipes.data.training_data import TrainingData, spread_rows

_BATCH, _AVERAGED = 16, 2000
_EQUAL_DB = 100.0  # of images without any error, whose PSNR is infinite
_WINDOW = 11  # pixels of SSIM


class PairJudge:
    """Measures translations against the true images; those of the mean training image stand beside them.

    Args:
        data: what the model is trained on.
        truth: images (count, channels, *spatial) that the translations should equal, in the range of `data`.
    """

    def __init__(self, data: TrainingData, truth: Tensor) -> None:
        self.truth, self.value_range = truth, data.fields["image"].value_range or (0.0, 1.0)
        rows = spread_rows(len(data), _AVERAGED)
        mean = sum((data.samples[row]["image"] for row in rows), torch.zeros(truth.shape[1:])) / len(rows)
        self.reference = {
            f"{name}_mean_image": value for name, value in self._values(mean.expand_as(self.truth)).items()
        }

    def measures(self, images: Tensor) -> dict[str, float]:
        """``psnr_db`` and ``ssim``, means over the images; ``…_mean_image``: of the mean training image.

        SSIM needs the package torchmetrics and 11 pixels along each axis, and is left out without. PSNR is in dB; an
        image without any error counts as 100.

        Args:
            images: (count, channels, *spatial), image k for truth k.
        """
        return {**self._values(images.cpu()), **self.reference}

    def _values(self, images: Tensor) -> dict[str, float]:
        images = images.float().clamp(*self.value_range)
        decibels = peak_signal_to_noise_ratio(self.truth, images, self.value_range)
        found = {"psnr_db": float(decibels.clamp(max=_EQUAL_DB).mean())}
        if min(images.shape[2:]) < _WINDOW:
            return found
        try:
            similar = [
                structural_similarity(self.truth[k : k + _BATCH], images[k : k + _BATCH], self.value_range)
                for k in range(0, len(images), _BATCH)
            ]
        except MissingExtraError:
            return found
        return {**found, "ssim": float(torch.cat(similar).mean())}


def translation_quality(synthesizer: Synthesizer, train: TrainingData, held_out: TrainingData) -> dict[str, float]:
    """Translates the source of every held-out sample, and measures the images: see `PairJudge.measures`.

    Args:
        synthesizer: conditioned on ``source``.
        train: what it was trained on.
        held_out: samples with ``source`` and ``image``.
    """
    rows = [held_out.samples[k] for k in range(len(held_out))]
    truth, sources = (torch.stack([row[name] for row in rows]) for name in ("image", "source"))
    seeds = [range(len(rows))[k : k + _BATCH] for k in range(0, len(rows), _BATCH)]
    made = [synthesizer.synthesize(each, {"source": sources[each.start : each.stop]})["image"] for each in seeds]
    return PairJudge(train, truth).measures(torch.cat(made))


def pairs_text(measures: Mapping[str, float]) -> str:
    """A sentence on `PairJudge.measures`; empty without any."""
    names = {"psnr_db": ("PSNR", ".1f", " dB"), "ssim": ("SSIM", ".3f", "")}
    parts = [
        f"{name} {measures[key]:{digits}}{unit} (of the mean training image {measures[f'{key}_mean_image']:{digits}})"
        for key, (name, digits, unit) in names.items()
        if key in measures
    ]
    return f"Held-out sources translated, against their images: {', '.join(parts)}." if parts else ""
