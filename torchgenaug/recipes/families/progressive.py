"""``progressive``: a trained ``ddpm`` or ``ldm`` becomes a model that samples in 4, 2 or 1 steps.

Salimans and Ho (2022), "Progressive distillation for fast sampling of diffusion models": a copy of the teacher learns
to do in one step of DDIM what the teacher does in two; it becomes the teacher, and so on, until few steps are left. The
teacher's classifier-free guidance is distilled with it, as in Meng et al. (2023), "On distillation of guided diffusion
models", at one fixed scale: the student needs one network call a step where a guided teacher needs two.

The result is a synthesizer of the same kind as the teacher, whose steps are plain DDIM. (Consistency distillation, Luo
et al. (2023), needs noise in between, which the samplers of 3D models do not know.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from torchgenaug.contracts import Synthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families.ddim import ddim_step, diffused, trailing_times, velocity_towards
from torchgenaug.recipes.families.ddpm import condition_maps, with_scores
from torchgenaug.recipes.families.teachers import Teacher, check_teacher, load_teacher, trainable
from torchgenaug.recipes.options import Options
from torchgenaug.recipes.recipe import Family, Recipe, Update
from torchgenaug.synthesizers import DiffusersSynthesizer
from torchgenaug.types import Batch

FAMILIES = {
    "progressive": Family(
        "a trained ddpm or ldm made to sample in 4, 2 or 1 steps (progressive distillation, Salimans 2022)",
        steps=2000,
        batch_size=16,
        conditions=(None, "label", "mask", "source"),
        dims=(2, 3),
        with_mask=True,
        teacher=True,
        staged=True,
    )
}
_SAMPLING_STEPS = (1, 2, 4, 8)
_FIRST_STEPS = 8  # of the first student, which learns from 16 steps of the teacher
RATE = 5e-4
_LAST_RATE = 0.02  # of the learning rate, below which it does not fall


def build(family: str, data: TrainingData, options: Options) -> Recipe:
    """The recipe for `data` and the teacher that `options` name.

    Raises:
        ConfigurationError: a teacher that does not fit, or options that are the teacher's to decide.
    """
    return ProgressiveDistillation(load_teacher(options.teacher or ""), data, options)


class ProgressiveDistillation:
    """Students of 8, 4, 2, 1 steps, as far down as is wanted, each of which learns from the one before.

    Each stage has the same number of training steps, and its learning rate falls to nearly 0: weights at the end of a
    stage need no averaging, and an average would reach back into the stage before.
    """

    averaged: frozenset[str] = frozenset()

    def __init__(self, teacher: Teacher, data: TrainingData, options: Options) -> None:
        check_teacher(teacher, data, options)
        self.teacher, self.data, self.options = teacher, data, options
        self.steps = _checked_steps(options, len(teacher.alphas))
        self.guidance, self.null_class = _guidance(teacher, options)
        self.by_diffusers = isinstance(teacher.synthesizer, DiffusersSynthesizer)
        self.label_channels: int = teacher.settings["label_channels"]
        self.stages = tuple(each for each in reversed(_SAMPLING_STEPS) if self.steps <= each <= _FIRST_STEPS)
        self.networks: Mapping[str, nn.Module] = {
            "unet": trainable(teacher.unet),
            # Who teaches in the stage: the teacher, then a former student. Not trained, but a resume needs it.
            "reference": trainable(teacher.unet).requires_grad_(False),
        }
        self.autoencoder = None if teacher.autoencoder is None else trainable(teacher.autoencoder).requires_grad_(False)
        self.alphas = teacher.alphas
        self._optimizer: Optimizer | None = None

    def optimizers(self) -> dict[str, Optimizer]:
        """AdamW, as for the teacher."""
        parameters = list(self.networks["unet"].parameters())
        self.alphas = self.alphas.to(parameters[0].device)
        if self.autoencoder is not None:
            self.autoencoder.to(parameters[0].device).eval()
        self._optimizer = AdamW(parameters, lr=self._rate, betas=(0.9, 0.99), weight_decay=0.01)
        return {"unet": self._optimizer}

    def train_step(self, batch: Batch, update: Update, progress: float) -> dict[str, Tensor]:
        """One step of the student of this stage: where two steps of its teacher end, it is to end in one."""
        stage, within = self._stage(progress)
        reference = self.networks["reference"].eval()
        if stage > self._stage(progress - 1 / (self.options.steps or 1))[0]:
            reference.load_state_dict(self.networks["unet"].state_dict())
        for group in self._optimizer.param_groups if self._optimizer else ():
            group["lr"] = self._rate * max(_LAST_RATE, 1 - within)
        with torch.no_grad():
            clean = self._latents(batch)
            # Two steps of the teacher, and so twice as many times, per step of the student.
            times = trailing_times(2 * self.stages[stage], len(self.alphas)).to(clean.device)
            last = 2 * torch.randint(1, self.stages[stage] + 1, (len(clean),), device=clean.device)
            start, middle, end = times[last], times[last - 1], times[last - 2]
            noisy = diffused(clean, torch.randn_like(clean), self.alphas, start)
            half = ddim_step(noisy, self.taught(reference, noisy, start, batch, stage), self.alphas, start, middle)
            goal = ddim_step(half, self.taught(reference, half, middle, batch, stage), self.alphas, middle, end)
            wanted = velocity_towards(noisy, goal, self.alphas, start, end)
        made = self._velocity(self.networks["unet"], noisy, start, batch, batch.get("label"))
        # "SNR + 1" of Salimans and Ho (2022), section 4: the plain error of v.
        loss = (made - wanted).square().mean()
        update({"unet": loss})
        return {"distillation": loss}

    def synthesizer(self, networks: Mapping[str, nn.Module]) -> Synthesizer:
        """The student, in as few steps as it is to take at the end."""
        return self.teacher.student(networks["unet"], self.steps)

    @property
    def _rate(self) -> float:
        return self.options.learning_rate or RATE

    def _stage(self, progress: float) -> tuple[int, float]:
        """The number of the stage, and where it is, from 0 to 1."""
        # Rounded: progress is a quotient of whole numbers, and a stage begins at one step exactly.
        place = round(max(0.0, progress) * len(self.stages), 9)
        stage = min(int(place), len(self.stages) - 1)
        return stage, place - stage

    def _latents(self, batch: Batch) -> Tensor:
        """What is denoised: the image, with its mask's scores where masks are made, or its latents."""
        if self.autoencoder is None:
            return with_scores(batch, self.label_channels)
        # MONAI's networks name their methods; nn.Module's type does not know them.
        mean, deviation = self.autoencoder.encode(batch["image"])  # type: ignore[operator]
        latents: Tensor = mean.float() + deviation.float() * torch.randn_like(mean.float())
        return latents * float(self.teacher.settings["scale_factor"])

    def taught(self, network: nn.Module, noisy: Tensor, time: Tensor, batch: Batch, stage: int) -> Tensor:
        """The velocity of this stage's teacher; the first one is guided, its students have it in their weights."""
        label = batch.get("label")
        velocity = self._velocity(network, noisy, time, batch, label)
        if stage > 0 or self.guidance == 1 or label is None:
            return velocity
        nothing = self._velocity(network, noisy, time, batch, torch.full_like(label, self.null_class))
        return torch.lerp(nothing, velocity, self.guidance)

    def _velocity(self, network: nn.Module, noisy: Tensor, time: Tensor, batch: Batch, label: Tensor | None) -> Tensor:
        labels = label if self.options.condition == "label" else None
        given = condition_maps(batch, self.data, self.options)
        output: Any = network(torch.cat([noisy, *given], 1), time, class_labels=labels)
        velocity: Tensor = output.sample if self.by_diffusers else output
        return velocity.float()


def _checked_steps(options: Options, num_times: int) -> int:
    for name in ("width", "latent_dim"):
        if getattr(options, name) is not None:
            raise ConfigurationError(
                f"`{name}` must be left out for progressive, got {getattr(options, name)!r}. The student is a copy of "
                "its teacher. Train a smaller teacher."
            )
    steps = options.sampling_steps or 4
    if steps not in _SAMPLING_STEPS or num_times % steps:
        allowed = ", ".join(map(str, _SAMPLING_STEPS))
        raise ConfigurationError(
            f"`sampling_steps` must be one of {allowed} for progressive, got {steps}. Each stage halves the steps, "
            "from 8 on. For more steps the teacher itself is good: sample it with solver='dpm++'."
        )
    return steps


def _guidance(teacher: Teacher, options: Options) -> tuple[float, int]:
    """The scale to be distilled and the class that stands for any."""
    settings = teacher.settings
    null_class: int | None = settings["null_class"]
    if options.guidance_scale is not None and null_class is None:
        raise ConfigurationError(
            f"`guidance_scale` must be left out for a teacher without a class that stands for any, got "
            f"{options.guidance_scale}. {teacher.folder!r} cannot be guided."
        )
    scale = settings["guidance_scale"] if options.guidance_scale is None else options.guidance_scale
    return (1.0 if scale is None else float(scale)), null_class or 0
