"""`DiffusionEditSynthesizer`: any diffusion model of images fills a region of real images, or varies them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from torchgenaug import seeding
from torchgenaug.contracts import Denoises, Stored, Synthesizer, device_of, num_classes_of, trained_on_of
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.parts.checks import check_finite, check_seeds
from torchgenaug.synthesizers.parts.fingerprints import settings_digest
from torchgenaug.synthesizers.parts.image_conditions import given_image
from torchgenaug.types import Batch, FieldSpec


class DiffusionEditSynthesizer:
    """A diffusion model that begins at real images: inpainting, missing modalities, counterfactuals; no training.

    With `marks`, what they mark is made anew and everything else is kept to the bit: in every step the known part is
    the noised real image, and the sampling goes up and down again `resamples` times in each stretch of `jump` steps, so
    that both parts come to agree (RePaint). Without `marks` all of the image is noised up to `strength` and denoised
    under the conditions, another class for example (SDEdit): what is coarser than the noise stays.

    Deterministic: all noise of a sample comes from its seed. Picklable, and safe in threads, if the model is.

    Args:
        model: a synthesizer that `Denoises` images in pixel space, such as the ``ddpm`` of `fit`; unconditional, or
            conditioned on what the conditions hold, too. Its number of steps and its solver are not used.
        marks: how many channels behind those of the image mark what to make (by the upper end of the range): one, or
            one for each class of a region, which are united. ``"modalities"``: one for each channel of the image, which
            is then made alone. 0: no region.
        strength: how far up the noise the image goes, (0, 1]; 1 begins at noise alone. Below 1 a region keeps something
            of what the image has there.
        steps: denoising steps from noise alone to an image.
        resamples: how often each stretch is gone through; 1: once, without RePaint's jumps.
        jump: steps of a stretch.

    Attributes:
        fields: those of `model`.
        condition_fields: ``source``, (channels + marks, *spatial) in the model's range, and what the model takes.

    Raises:
        ConfigurationError: a model that cannot be called so, or arguments outside their domain; when sampling: no
            source, one of another size or range, or a sample with nothing marked.

    References:
        Lugmayr et al. (2022). RePaint: inpainting using denoising diffusion probabilistic models. CVPR (algorithm 1).
        Meng et al. (2022). SDEdit: guided image synthesis and editing with stochastic differential equations. ICLR.
        Song, Meng, Ermon (2021). Denoising diffusion implicit models. ICLR (equation 16 with η = 1).
    """

    family: ClassVar[str] = "edit"

    def __init__(
        self,
        model: Synthesizer,
        *,
        marks: int | Literal["modalities"] = 1,
        strength: float = 1.0,
        steps: int = 25,
        resamples: int = 5,
        jump: int = 5,
    ) -> None:
        if not isinstance(model, Synthesizer) or not isinstance(model, Denoises) or set(model.fields) != {"image"}:
            raise ConfigurationError(
                f"`model` must be a diffusion model of images alone that can begin at any noise level, got "
                f"{type(model).__name__}. Use a ddpm of `torchgenaug fit`, without --with-mask."
            )
        self.model, self.strength = model, float(strength)
        spec = model.fields["image"]
        latent = getattr(model, "latent_shape", spec.shape)
        if tuple(latent) != spec.shape:
            raise ConfigurationError(
                f"`model` must denoise images themselves, got one of latents {tuple(latent)} for images {spec.shape}. "
                "A region of an image is none of its latents. Use a ddpm."
            )
        count = spec.shape[0] if marks == "modalities" else marks
        numbers = {"steps": (steps, 1), "resamples": (resamples, 1), "jump": (jump, 1), "marks": (count, 0)}
        for name, (value, least) in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigurationError(f"`{name}` must be an integer of at least {least}, got {value!r}.")
        if not 0 < self.strength <= 1 or int(steps * self.strength) < 1:
            raise ConfigurationError(
                f"`strength` must be in (0, 1] and leave at least one of {steps} steps, got {strength!r}. The images "
                "would come back unchanged."
            )
        if not marks and self.strength == 1:
            raise ConfigurationError(
                "`strength` must be below 1 without marks, got 1. Nothing of the image would stay. Try strength=0.5."
            )
        self.marks, self.steps, self.resamples, self.jump = marks, steps, resamples, jump
        low, high = model.value_range  # type: ignore[attr-defined]
        self.value_range = (float(low), float(high))
        self.trained_on: Mapping[str, Any] | None = trained_on_of(model)
        self.fields: Mapping[str, FieldSpec] = {"image": FieldSpec(spec.shape, value_range=self.value_range)}
        self._spec = FieldSpec((spec.shape[0] + count, *spec.shape[1:]), value_range=self.value_range)
        self._own_source = _source_of(model)
        if self._own_source not in (None, self._spec):
            raise ConfigurationError(
                f"`model` must take no source, or the image with its marks {self._spec}, got one that takes "
                f"{self._own_source}. A sample has one source. Use an unconditional model, or other `marks`."
            )
        self.condition_fields: Mapping[str, FieldSpec] = {
            **getattr(model, "condition_fields", {}),
            "source": self._spec,
        }

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return device_of(self.model)

    @property
    def num_classes(self) -> int | None:
        """Labels lie in [0, num_classes); None for a model without classes."""
        return num_classes_of(self.model)

    @property
    def settings(self) -> dict[str, Any]:
        """What the constructor needs besides the model, JSON-ready."""
        names = ("marks", "strength", "steps", "resamples", "jump")
        return {name: getattr(self, name) for name in names}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the model and the settings."""
        return settings_digest({"family": "edit", "model": self.model.fingerprint, **self.settings})

    def synthesize(self, seeds: Sequence[int], conditions: Batch | None = None) -> Batch:
        """One image per seed.

        Args:
            seeds: integers in [0, 2^64), at least one.
            conditions: ``source``, and what the model is conditioned on.

        Raises:
            ConfigurationError: conditions that are missing or do not fit, or a sample without a marked region.
        """
        check_seeds(seeds)
        source = given_image("source", conditions, len(seeds), self._spec).to(self.device).float()
        image, hidden = source[:, : self.fields["image"].shape[0]], self._hidden(source)
        with torch.no_grad():
            made = self._edited(image, hidden, seeds, conditions)
        check_finite(made, seeds)
        low, high = self.value_range
        made = ((made + 1) * ((high - low) / 2) + low).clamp(low, high)
        return {"image": made if hidden is None else torch.where(hidden, made, image.clamp(low, high))}

    def _hidden(self, source: Tensor) -> Tensor | None:
        """What is to be made, bool (batch, 1 or channels, *spatial); None: everything."""
        if not self.marks:
            return None
        channels = self.fields["image"].shape[0]
        hidden = source[:, channels:] > sum(self.value_range) / 2
        hidden = hidden if self.marks == "modalities" else hidden.any(1, keepdim=True)
        empty = ~hidden.flatten(1).any(1)
        # All of it leaves nothing to go by; below full strength something of the image stays under the noise.
        full = hidden.flatten(1).all(1) & (self.marks == "modalities" or self.strength == 1)
        if bool((empty | full).any()):
            place = int((empty | full).nonzero()[0, 0])
            everything = "no modality that is present" if self.marks == "modalities" else "all of the image marked"
            got = "nothing marked" if bool(empty[place]) else everything
            low, high = self.value_range
            raise ConfigurationError(
                f"`source` must mark a part of every sample, and not all of it, got {got} at position {place}. "
                f"A mark is {high:g} where something is to be made, else {low:g}. Leave such samples out. See "
                "PlacedLesions and FillMissing."
            )
        return hidden

    def _edited(self, image: Tensor, hidden: Tensor | None, seeds: Sequence[int], conditions: Batch | None) -> Tensor:
        """The images in [-1, 1], float32."""
        low, high = self.value_range
        model: Any = self.model
        denoiser = model.denoiser(len(seeds), self._for_model(conditions))
        middle, half = (denoiser.low + denoiser.high) / 2, (denoiser.high - denoiser.low) / 2
        known = ((image - low) * (2 / (high - low)) - 1) * half + middle
        levels = self._levels(denoiser.alphas)
        keys, shape, number = list(seeds), tuple(image.shape[1:]), 0

        def noise() -> Tensor:
            nonlocal number
            number += 1
            return seeding.normal(seeding.derive(keys, seeding.STEP_NOISE, number), shape, device=self.device)

        first = levels[0][1]
        start = seeding.normal(seeding.derive(keys, seeding.NOISE), shape, device=self.device)
        noisy = start if self.strength == 1 else math.sqrt(first) * known + math.sqrt(1 - first) * start
        for at, to in self._walk(len(levels) - 1):
            (time, now), (_, then) = levels[at], levels[to]
            if to < at:  # up
                noisy = math.sqrt(then / now) * noisy + math.sqrt(1 - then / now) * noise()
                continue
            clean = denoiser.clean(noisy, time).clamp(denoiser.low, denoiser.high)
            rest = (noisy - math.sqrt(now) * clean) / math.sqrt(1 - now)
            spread = math.sqrt((1 - then) / (1 - now) * (1 - now / then))
            noisy = math.sqrt(then) * clean + math.sqrt(max(0.0, 1 - then - spread**2)) * rest
            if to < len(levels) - 1:
                noisy = noisy + spread * noise()
            if hidden is not None:
                noised = math.sqrt(then) * known
                if to < len(levels) - 1:
                    noised = noised + math.sqrt(1 - then) * noise()
                noisy = torch.where(hidden, noisy, noised)
        made: Tensor = (noisy - middle) / half
        return made

    def _levels(self, alphas: Tensor) -> list[tuple[int, float]]:
        """(index, ᾱ) of the noise levels that are walked, from the noisiest; the last is that of a clean image."""
        times = len(alphas)
        walked = int(self.steps * self.strength)
        chosen = [round((self.steps - k) * (times - 1) / self.steps) for k in range(self.steps - walked, self.steps)]
        return [(time, float(alphas[time])) for time in chosen] + [(0, 1.0)]

    def _walk(self, last: int) -> Iterator[tuple[int, int]]:
        """(level, next level) of each step: down `jump` levels, up again and down, `resamples` times each."""
        at = 0
        while at < last:
            end = min(at + self.jump, last)
            for round_ in range(self.resamples if self.marks else 1):
                if round_:
                    yield from ((level, level - 1) for level in range(end, at, -1))
                yield from ((level, level + 1) for level in range(at, end))
            at = end

    def _for_model(self, conditions: Batch | None) -> Batch | None:
        """The conditions that the model itself takes."""
        kept = {name: value for name, value in (conditions or {}).items() if name != "source" or self._own_source}
        return kept or None

    def stored(self) -> Stored:
        """What `save_synthesizer` writes."""
        return Stored(self.settings, parts={"model": self.model})

    @classmethod
    def from_stored(
        cls, stored: Stored, *, device: torch.device, dtype: torch.dtype | None
    ) -> DiffusionEditSynthesizer:
        """The synthesizer that `stored` describes; its model is on the device already."""
        return cls(stored.parts["model"], **stored.settings)

    def __repr__(self) -> str:
        return f"DiffusionEditSynthesizer({self.model!r}, {', '.join(f'{k}={v}' for k, v in self.settings.items())})"


def _source_of(model: Any) -> FieldSpec | None:
    """The spec of the source images that a diffusion model takes itself."""
    stored = model.settings.get("source") if hasattr(model, "settings") else None
    return None if stored is None else FieldSpec.from_json(stored)
