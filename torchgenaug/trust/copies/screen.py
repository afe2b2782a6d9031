"""`CopyScreen`: no copy of a training image leaves a `SyntheticSequence`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from torchgenaug.errors import BadSampleError, ConfigurationError
from torchgenaug.trust.copies.detector import CopyDetector
from torchgenaug.types import Batch


class CopyScreen:
    """Generates copies of training images again, from another seed, or refuses them.

    A redraw is a function of the sample's seed, so that pool, shards and sequence still agree on sample k. Innocent
    images that look like copies, a fraction `detector.false_alarm_rate` by construction, are replaced as well.

    Screens that are given replace the default one: ``SyntheticSequence(model, screens=[ConstantScreen(), screen])``.
    Each sample is judged by itself; deterministic; picklable.

    Args:
        detector: calibrated on real images of the same shape.
        field: the image.
        label_field: its class, where the detector compares within classes.
        redraws: how often a sample is generated again before `BadSampleError` is raised; 0 to refuse at once.

    Raises:
        ConfigurationError: a detector with too few held-out images to judge, or a negative number of redraws.

    Example:
        >>> from torchgenaug import SyntheticSequence
        >>> from torchgenaug.testing import AnalyticSynthesizer
        >>> model = AnalyticSynthesizer((16, 16))
        >>> real = SyntheticSequence(model, seed=1).batch(range(240))["image"]
        >>> screen = CopyScreen(CopyDetector(real[:120], real[120:], false_alarm_rate=0.05))
        >>> SyntheticSequence(model, screens=[screen]).batch([0, 1])["image"].shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self, detector: CopyDetector, *, field: str = "image", label_field: str | None = None, redraws: int = 8
    ) -> None:
        if not detector.can_judge:
            raise ConfigurationError(
                f"`detector` must be calibrated on at least {round(1 / detector.false_alarm_rate) - 1} held-out images "
                f"or patients, got {detector.num_calibration}. It could not recognise a copy. Hold out more, or state "
                "a higher rate: CopyDetector(train, held_out, false_alarm_rate=0.05)."
            )
        if isinstance(redraws, bool) or not isinstance(redraws, int) or redraws < 0:
            raise ConfigurationError(f"`redraws` must be an integer of at least 0, got {redraws!r}.")
        self.detector, self.field, self.label_field, self.redraws = detector, field, label_field, redraws

    @property
    def fingerprint(self) -> str:
        """sha256 over the detector and the settings."""
        settings = f"copies\n{self.detector.fingerprint}\n{self.field}\n{self.label_field}\n{self.redraws}"
        return hashlib.sha256(settings.encode()).hexdigest()

    def __call__(self, ids: Sequence[int], seeds: Sequence[int], batch: Batch) -> None:
        """Raises `BadSampleError` for the samples that look like copies."""
        for name in (self.field, self.label_field):
            if name is not None and name not in batch:
                raise ConfigurationError(
                    f"`field` and `label_field` must name fields of the samples ({', '.join(sorted(batch))}), got "
                    f"{name!r}. Nothing was judged. Name one of them: CopyScreen(detector, field='image')."
                )
        labels = None if self.label_field is None else batch[self.label_field].cpu().long()
        report = self.detector(batch[self.field].detach().cpu(), labels)
        rows = report.flagged.nonzero()[0].tolist()
        if not rows:
            return
        bad_ids, bad_seeds = [ids[row] for row in rows], [seeds[row] for row in rows]
        row = rows[0]
        raise BadSampleError(
            f"Field {self.field!r} must not copy training images, got {len(rows)} of {len(ids)} samples that do: ids "
            f"{bad_ids[:8]} (the first resembles training image {report.nearest[row]}, p = {report.p_value[row]:.3g}), "
            f"after {self.redraws} redraws. The model has memorised. Train it shorter, smaller or on more data; or "
            "allow more redraws: CopyScreen(detector, redraws=64).",
            ids=bad_ids,
            seeds=bad_seeds,
        )

    def __repr__(self) -> str:
        return f"CopyScreen({self.detector!r}, redraws={self.redraws})"
