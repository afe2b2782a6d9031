"""`fit`: the one training loop of all recipes."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchgenaug.errors import ConfigurationError, DivergenceError
from torchgenaug.recipes import checkpoint
from torchgenaug.recipes.accelerator import open_accelerator
from torchgenaug.recipes.batches import training_batches
from torchgenaug.recipes.build import build_recipe, describe_family, with_condition
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.families.teachers import Teacher, chosen_teacher, taught_on, warn_of_seen
from torchgenaug.recipes.options import FitOptions, Options
from torchgenaug.recipes.report import Judge, draw_samples, write_history
from torchgenaug.recipes.state import TrainingState
from torchgenaug.recipes.stopping import Stop, stoppable
from torchgenaug.synthesizers.saving.folder import rewrite_synthesizer

_RUN_FOLDER = "training"
_LOSSES_CHECKED_EVERY = 50  # steps: a GPU has to be waited for


@dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    Attributes:
        synthesizer: the trained one, as saved.
        steps: training steps done.
        finished: whether all of them were; False after `max_minutes` or Ctrl-C.
        distance: sliced Wasserstein distance of its samples to held-out images.
        floor: that of training images to held-out ones.
        noise: that of noise to held-out ones.
        copied: fraction of samples that count as copies of training images, see `CopyTest`.
        copied_reference: how many would by chance.
        seconds: time of this call.
    """

    synthesizer: Any
    steps: int
    finished: bool
    distance: float
    floor: float
    noise: float
    copied: float
    copied_reference: float
    seconds: float


def fit(
    family: str,
    data: TrainingData,
    out: str | Path,
    *,
    held_out: TrainingData | None = None,
    recipe: Options | None = None,
    options: FitOptions | None = None,
    device: str | None = None,
    fresh: bool = False,
    progress: bool = True,
    rotate: int = 0,
) -> FitResult:
    """Trains a generative model of `family` on `data` and saves it in `out`, where `load_synthesizer` finds it.

    Stop it at any moment: the same call goes on from the last checkpoint, to the same weights as without the stop (on
    the same kind of device). Several processes (``torchrun``, ``accelerate launch``) train together.

    Args:
        family: one of `list_families()`.
        data: what to train on.
        out: folder of the synthesizer; what belongs to the training is in ``out/training``.
        held_out: real samples that the model does not see, to judge it by; default: a tenth of `data`, by patient
            where patients are known.
        recipe: options of the family.
        options: options of the loop.
        device: ``"cpu"``, or a GPU where there is one by default.
        fresh: begin again, though `out` holds a run.
        progress: show a progress bar.
        rotate: quarter turns of the images in pictures (1 for torchio's axes).

    Raises:
        ConfigurationError: data or options that the family cannot use; a run with other settings in `out`.
        SynthesizerLoadError: no model in the folder of the teacher, or a damaged checkpoint.
        DivergenceError: weights that are not numbers any more; what was saved before is kept.
    """
    started = time.monotonic()
    options, recipe = options or FitOptions(), recipe or Options()
    about = describe_family(family)
    _check(recipe, options)
    if about.staged and options.patience is not None:
        raise ConfigurationError(
            f"`patience` must be left out for {family}, got {options.patience}. Its samples are good at the end of its "
            "last stage only; a run that stops before has learnt something else. Give fewer --steps."
        )
    recipe = with_condition(family, data, recipe)
    recipe = replace(recipe, steps=recipe.steps or about.steps, batch_size=recipe.batch_size or about.batch_size)
    teacher = chosen_teacher(recipe, out)
    frozen = _frozen(family, data, recipe, options, teacher)
    if held_out is None:
        data, held_out = data.split(0.1, options.seed)
    if teacher is not None:
        warn_of_seen(teacher, held_out)
    accelerator = open_accelerator(device, options)
    folder = Path(out) / _RUN_FOLDER
    # Everything draws from torch's global generators, which get back the state that they had.
    with torch.random.fork_rng(), stoppable() as stop:
        torch.manual_seed(options.seed)
        run = TrainingState(build_recipe(family, data, recipe), accelerator, options)
        if accelerator.is_main_process:
            if fresh:
                shutil.rmtree(folder, ignore_errors=True)
            checkpoint.begin(folder, frozen | {"processes": accelerator.num_processes})
        accelerator.wait_for_everyone()
        run.resume(folder)
        judge = Judge(data, held_out, recipe.condition) if accelerator.is_main_process else None
        loop = _Loop(run, data, judge, recipe, options, Path(out), folder, rotate, started, teacher)
        return loop.train(stop, progress)


class _Loop:
    """Trains a run to its end, with reports on the way."""

    def __init__(
        self,
        run: TrainingState,
        data: TrainingData,
        judge: Judge | None,
        recipe: Options,
        options: FitOptions,
        out: Path,
        folder: Path,
        rotate: int,
        started: float,
        teacher: Teacher | None,
    ) -> None:
        self.run, self.data, self.judge, self.options = run, data, judge, options
        self.out, self.folder, self.rotate, self.started = out, folder, rotate, started
        self.teacher = teacher
        self.steps, self.batch_size = recipe.steps or 1, recipe.batch_size or 1
        self.every = max(1, self.steps // max(1, options.reports))

    def train(self, stop: Stop, progress: bool) -> FitResult:
        """Steps until the end, a stop, or the time limit."""
        from tqdm import tqdm

        run = self.run
        process, processes = run.accelerator.process_index, run.accelerator.num_processes
        batches = training_batches(
            self.data,
            self.batch_size,
            seed=self.options.seed,
            first_step=run.step * self.options.accumulate,
            augment=self.options.augment,
            rank=process,
            world_size=processes,
            workers=self.options.workers,
        )
        shown = progress and run.accelerator.is_main_process
        with tqdm(total=self.steps, initial=run.step, disable=not shown, unit="step", dynamic_ncols=True) as bar:
            while run.step < self.steps and not self._exhausted() and not self._agreed(stop.asked or self._late()):
                self._step(batches)
                bar.update()
                if run.step % self.every == 0 and run.step < self.steps:
                    bar.set_postfix_str(self._report())
        return self._finish()

    def _step(self, batches: Iterator[Mapping[str, Tensor]]) -> None:
        run = self.run
        try:
            run.losses.add(run.train_step(batches, run.step / self.steps))
        except (ArithmeticError, RuntimeError, ValueError) as error:
            self._check_losses(error)  # weights that are not numbers, and a network that checks what it is given
            raise
        if run.step % _LOSSES_CHECKED_EVERY == 0:
            self._check_losses()

    def _check_losses(self, cause: Exception | None = None) -> None:
        wrong = self.run.diverged()
        if not wrong:
            return
        kept = self.run.history[-1]["step"] if self.run.history else 0
        raise DivergenceError(
            f"Training must have finite losses, got {wrong} by step {self.run.step} at {self.out}. What was saved at "
            f"step {kept:.0f} is kept; the same command would come to the same. Train anew in another folder (--out), "
            "with a smaller --learning-rate or without half precision."
        ) from cause

    def _finish(self) -> FitResult:
        run = self.run
        self._check_losses()
        finished = run.step >= self.steps or self._exhausted()
        if not finished:
            self._save_checkpoint()
        elif not self._reported():
            self._report()
        run.accelerator.wait_for_everyone()
        from torchgenaug.synthesizers import load_synthesizer

        has_model = (self.out / "synthesizer.json").exists()
        last = run.history[-1] if run.history else {}
        return FitResult(
            load_synthesizer(self.out) if has_model else None,
            steps=run.step,
            finished=finished,
            distance=last.get("distance", float("nan")),
            floor=self.judge.floor if self.judge else float("nan"),
            noise=self.judge.noise if self.judge else float("nan"),
            copied=last.get("copied", float("nan")),
            copied_reference=self.judge.reference if self.judge else float("nan"),
            seconds=time.monotonic() - self.started,
        )

    def _report(self) -> str:
        """Judges the model, draws samples, saves both model and checkpoint; returns a line for the progress bar."""
        self._check_losses()
        run, row = self.run, {"step": float(self.run.step)}
        row |= run.losses.take()
        if self.judge is not None:
            synthesizer = run.synthesizer()
            samples = self.judge.samples(synthesizer)
            row["distance"] = self.judge.distance(samples)
            row["copied"], too_much = self.judge.copied(samples)
            if too_much:
                warnings.warn(self._copy_warning(row["copied"]), stacklevel=2)
            better = row["distance"] < run.best
            run.best, run.since_best = (row["distance"], 0) if better else (run.best, run.since_best + 1)
            run.history.append(row)
            picture = self.folder / "samples" / f"step-{run.step:07d}.png"
            draw_samples(samples, synthesizer, self.data, picture, self.rotate)
            write_history(run.history, self.folder)
            if better or self.options.patience is None:
                synthesizer.trained_on = self._trained_on()  # type: ignore[attr-defined]
                rewrite_synthesizer(synthesizer, self.out)
        self._save_checkpoint()
        return "  ".join(f"{name} {value:.3g}" for name, value in row.items() if name != "step")

    def _reported(self) -> bool:
        """Whether the last report was at this step; the first process, which has the reports, decides."""
        history = self.run.history
        return self._agreed(bool(history) and history[-1]["step"] == self.run.step)

    def _save_checkpoint(self) -> None:
        if self.run.accelerator.is_main_process:
            self.run.save(self.folder)
        self.run.accelerator.wait_for_everyone()

    def _copy_warning(self, fraction: float) -> str:
        expected = self.judge.reference if self.judge else 0.0
        return (
            f"At step {self.run.step}, {fraction:.0%} of the samples lie nearer to training images than held-out "
            f"images do (by chance {expected:.0%} would): the model begins to copy. Stop earlier (--steps, "
            "--patience), make it smaller (--width), or add data."
        )

    def _trained_on(self) -> dict[str, Any] | None:
        own = {
            "data": self.data.name,
            "samples": list(self.data.ids),
            "patients": sorted(set(self.data.patients)),
            "steps": self.run.step,
        }
        return own if self.teacher is None else taught_on(self.teacher, own)

    def _exhausted(self) -> bool:
        return self.options.patience is not None and self._agreed(self.run.since_best >= self.options.patience)

    def _late(self) -> bool:
        limit = self.options.max_minutes
        return limit is not None and time.monotonic() - self.started > 60 * limit

    def _agreed(self, mine: bool) -> bool:
        """What the first process says, in every process: they must all stop at the same step."""
        if self.run.accelerator.num_processes == 1:
            return mine
        from accelerate.utils import broadcast

        flag = torch.tensor(float(mine), device=self.run.accelerator.device)
        return bool(broadcast(flag).item())


def _frozen(
    family: str, data: TrainingData, recipe: Options, options: FitOptions, teacher: Teacher | None
) -> dict[str, Any]:
    """What a resume must not change."""
    return {
        "family": family,
        "teacher_fingerprint": None if teacher is None else teacher.synthesizer.fingerprint,
        "data": data.name,
        "data_sha256": checkpoint.data_fingerprint(data),
        **asdict(recipe),
        "seed": options.seed,
        "precision": options.precision,
        "accumulate": options.accumulate,
        "augment": options.augment,
        "ema_decay": options.ema_decay,
        "max_grad_norm": options.max_grad_norm,
    }


def _check(recipe: Options, options: FitOptions) -> None:
    numbers = {
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "width": recipe.width,
        "latent_dim": recipe.latent_dim,
        "sampling_steps": recipe.sampling_steps,
        "accumulate": options.accumulate,
        "reports": options.reports,
        "patience": options.patience,
    }
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ConfigurationError(f"`{name}` must be at least 1, got {value!r}.")
    if recipe.learning_rate is not None and not recipe.learning_rate > 0:
        raise ConfigurationError(f"`learning_rate` must be positive, got {recipe.learning_rate!r}. 1e-3 is usual.")
