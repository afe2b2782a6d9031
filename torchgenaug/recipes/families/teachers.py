"""`Teacher`: a trained diffusion model that another one is distilled from, and its requirements on data and options."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families.monai_ddim import trailing_offset
from torchgenaug.recipes.options import Options
from torchgenaug.synthesizers import DiffusersSynthesizer, MonaiSynthesizer, load_synthesizer
from torchgenaug.types import FieldSpec

Sampler: TypeAlias = DiffusersSynthesizer | MonaiSynthesizer
_TABLE = "alphas_cumprod"
_PREDICTION = "v_prediction"


@dataclass(frozen=True)
class Teacher:
    """A model of the family ``ddpm`` or ``ldm`` (or one made like theirs) in a folder.

    Attributes:
        folder: where it was loaded from, as it was named.
        synthesizer: the loaded model, float32.
        alphas: cumulative products a_t of its noise levels, (times,).
        autoencoder: of a latent diffusion model, else None.
    """

    folder: str
    synthesizer: Sampler
    alphas: Tensor
    autoencoder: nn.Module | None

    @property
    def unet(self) -> nn.Module:
        """The frozen denoiser; copy it before you change it."""
        return self.synthesizer.unet

    @property
    def settings(self) -> Mapping[str, Any]:
        """The sampling settings."""
        return self.synthesizer.settings

    @property
    def condition(self) -> Any:
        """Its condition: ``"label"``, ``"mask"``, ``"source"`` or None."""
        if self.synthesizer.num_classes is not None:
            return "label"
        channels = (name for name in ("mask_classes", "source") if self.settings.get(name) is not None)
        return {"mask_classes": "mask", "source": "source"}.get(next(channels, ""))

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        """What it saw; None where nobody knows."""
        return self.synthesizer.trained_on

    def student(self, unet: nn.Module, steps: int) -> Sampler:
        """A synthesizer of `unet` that takes `steps` steps of DDIM from pure noise, without guidance.

        Args:
            unet: a network of the teacher's structure.
            steps: a divisor of the number of noise levels: timesteps are the levels k/steps of them, the last one
                first ("trailing", Lin et al., 2024).
        """
        settings = self.settings
        if isinstance(self.synthesizer, DiffusersSynthesizer):
            from diffusers import DDIMScheduler

            from torchgenaug.synthesizers.diffusion.solvers import with_solver

            walked = with_solver(self.synthesizer.scheduler, "ddim", steps)
            return DiffusersSynthesizer(
                unet,
                DDIMScheduler.from_config(walked.config, clip_sample=False, set_alpha_to_one=True),
                steps=steps,
                value_range=self.synthesizer.value_range,
                label_channels=settings["label_channels"],
                clip=settings["clip"],
                null_class=settings["null_class"],
            )
        scheduler = self.synthesizer.scheduler
        scheduler.steps_offset = trailing_offset(len(self.alphas), steps)
        scheduler.clip_sample, scheduler.final_alpha_cumprod = False, torch.tensor(1.0)
        source = settings["source"]
        return MonaiSynthesizer(
            unet,
            scheduler,
            size=settings["size"],
            autoencoder=self.autoencoder,
            scale_factor=settings["scale_factor"],
            steps=steps,
            null_class=settings["null_class"],
            mask_classes=settings["mask_classes"],
            source=None if source is None else FieldSpec.from_json(source),
            value_range=self.synthesizer.value_range,
            label_channels=settings["label_channels"],
            clip=settings["clip"],
        )


def load_teacher(folder: str) -> Teacher:
    """The model in `folder`, which `fit` or `save_synthesizer` wrote.

    Raises:
        SynthesizerLoadError: no such folder.
        ConfigurationError: another kind of model than those of ``ddpm`` and ``ldm``.
    """
    synthesizer = load_synthesizer(folder, dtype=torch.float32)
    reason = _unusable(synthesizer)
    if reason is not None:
        raise ConfigurationError(
            f"`teacher` must be a diffusion model like those that `torchgenaug fit ddpm` and `fit ldm` train, got "
            f"{reason} in {folder!r}. Its steps cannot be distilled. Train one of these first."
        )
    if isinstance(synthesizer, DiffusersSynthesizer):
        return Teacher(folder, synthesizer, synthesizer.scheduler.alphas_cumprod.float(), None)
    made = cast(MonaiSynthesizer, synthesizer).stored()
    return Teacher(folder, cast(MonaiSynthesizer, synthesizer), made.tensors[_TABLE], made.networks.get("autoencoder"))


def chosen_teacher(options: Options, out: str | Path) -> Teacher | None:
    """The teacher that the options name, if they do.

    Args:
        options: of the recipe.
        out: where the student will be written.

    Raises:
        ConfigurationError: it would be written over its teacher; or as `load_teacher`.
        SynthesizerLoadError: no such folder.
    """
    if options.teacher is None:
        return None
    if Path(out).resolve() == Path(options.teacher).resolve():
        raise ConfigurationError(
            f"`out` must be another folder than the teacher's, got {str(out)!r}. The teacher would be overwritten. "
            "Choose a new folder."
        )
    return load_teacher(options.teacher)


def like_teacher(teacher: Teacher, options: Options) -> Options:
    """The options, with the teacher's `condition` and `with_mask` where they are not given."""
    condition = teacher.condition if options.condition is None else options.condition
    return replace(options, condition=condition, with_mask=options.with_mask or teacher.settings["label_channels"] > 0)


def check_teacher(teacher: Teacher, data: TrainingData, options: Options) -> None:
    """Checks that the teacher can teach on `data`, which must look like its images and conditions.

    Raises:
        ConfigurationError: it cannot; the message says what differs.
    """
    settings, fields = teacher.settings, teacher.synthesizer.fields
    classes = teacher.synthesizer.num_classes
    there: dict[str, tuple[object, object]] = {
        "--condition": (teacher.condition or "none", options.condition or "none"),
        "--with-mask": (settings["label_channels"] > 0, options.with_mask),
        "image shape": (fields["image"].shape, data.image_shape),
        "image range": (_rounded(teacher.synthesizer.value_range), _rounded(data.fields["image"].value_range)),
    }
    if teacher.condition == "label":
        there["number of labels"] = (classes, data.num_classes)
    if settings["label_channels"] or teacher.condition == "mask":
        wanted = settings["label_channels"] or settings["mask_classes"]
        there["number of mask classes"] = (wanted, data.num_mask_classes)
    if teacher.condition == "source":
        own, given = FieldSpec.from_json(settings["source"]), data.fields.get("source")
        there["source shape"] = (own.shape, None if given is None else given.shape)
        there["source range"] = (_rounded(own.value_range), None if given is None else _rounded(given.value_range))
    differences = [f"{name}: {its} there, {ours} here" for name, (its, ours) in there.items() if its != ours]
    if differences:
        raise ConfigurationError(
            f"`teacher` must fit the data and the options, got differences to {teacher.folder!r}: "
            f"{'; '.join(differences)}. Distil on the data that it was trained on, at their --size, and leave "
            "--condition and --with-mask out: they are the teacher's."
        )


def trainable(network: nn.Module) -> nn.Module:
    """A copy of a frozen network that can be trained."""
    return copy.deepcopy(network).requires_grad_(True).train()


def _unusable(synthesizer: object) -> str | None:
    """Why this is no teacher; None if it is one."""
    if isinstance(synthesizer, DiffusersSynthesizer):
        config = synthesizer.scheduler.config
        sizes: Any = synthesizer.unet.config
        if synthesizer.vae is not None:
            return "one with an autoencoder of diffusers"
        if sizes.out_channels != sizes.in_channels:
            return "one that also predicts variances"
        if not hasattr(synthesizer.scheduler, _TABLE):
            return f"one with a {type(synthesizer.scheduler).__name__}"
        return _other_prediction(config.get("prediction_type"))
    if not isinstance(synthesizer, MonaiSynthesizer):
        return f"a {type(synthesizer).__name__}"
    made = synthesizer.stored()
    schedule, latent = made.settings["scheduler"], "autoencoder" in made.networks
    channels = made.settings["mask_classes"] or (made.settings["source"] and made.settings["source"]["shape"][0]) or 0
    unet: Any = made.networks["unet"]
    plain = type(unet).__name__ == "DiffusionModelUNet" and not unet.with_conditioning
    plain = unet.in_channels - unet.out_channels == channels and not (channels and (latent or synthesizer.num_classes))
    if not plain or not plain or "controlnet" in made.networks:
        return "one with other conditions, or conditioned in another way"
    if latent and type(made.networks["autoencoder"]).__name__ != "AutoencoderKL":
        return f"one with a {type(made.networks['autoencoder']).__name__}"
    if list(made.settings["network_range"]) != [-1.0, 1.0]:
        return f"one with network_range={made.settings['network_range']}"
    if schedule["class"] != "DDIMScheduler":
        return f"one with a {schedule['class']}"
    return _other_prediction(schedule["prediction_type"])


def _other_prediction(kind: object) -> str | None:
    # With pure noise, what was added says nothing about the image: one step needs v (Salimans and Ho, 2022, section 4).
    return None if kind == _PREDICTION else f"one that predicts {kind!r} (v_prediction is needed)"


def _rounded(limits: tuple[float, float] | None) -> tuple[float, ...] | None:
    return None if limits is None else tuple(float(f"{limit:.5g}") for limit in limits)
