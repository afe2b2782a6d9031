"""The training loop of all recipes: steps, reports on the way, and a usable model whenever it ends."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchgenaug.bare_names import bare_name
from torchgenaug.contracts import Synthesizer
from torchgenaug.errors import DivergenceError
from torchgenaug.progress import minute_lines
from torchgenaug.recipes.ancestry import Ancestor
from torchgenaug.recipes.batches import spared, training_batches
from torchgenaug.recipes.data.training_data import TrainingData
from torchgenaug.recipes.options import FitOptions, Options
from torchgenaug.recipes.report import Judge, draw_samples, write_history
from torchgenaug.recipes.state import TrainingState
from torchgenaug.recipes.stopping import Stop
from torchgenaug.synthesizers.saving.folder import rewrite_synthesizer
from torchgenaug.types import Batch

_LOSSES_CHECKED_EVERY = 50  # steps: a GPU has to be waited for


@dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    Attributes:
        synthesizer: the trained one, as saved.
        steps: training steps done.
        finished: whether all of them were; False after `max_minutes` with given steps, Ctrl-C or SIGTERM.
        signal: number of the signal that ended the run before its end (2: Ctrl-C, 15: SIGTERM); None: none did.
        distance: sliced Wasserstein distance of its samples to held-out images.
        num_judged: how many samples, and at most as many held-out images, the distance and the copies are from. It sees
            local structure and contrast; it does not see whether anatomy, labels or masks are right.
        floor: that of training images to held-out ones.
        noise: that of noise to held-out ones.
        copied: fraction of samples that count as copies of training images, see `CopyTest`; NaN where held-out images
            are nearer to each other than to training images, so that noise would count as copies.
        copied_reference: how many would by chance.
        seconds: time of this call.
        pairs: of a translator, ``psnr_db`` and ``ssim`` of held-out sources that it translated, against their images,
            and those of the mean training image; see `torchgenaug.recipes.pairs`. Empty for others.
    """

    synthesizer: Any
    steps: int
    finished: bool
    signal: int | None
    distance: float
    num_judged: int
    floor: float
    noise: float
    copied: float
    copied_reference: float
    seconds: float
    pairs: Mapping[str, float] = field(default_factory=dict)


class TrainingLoop:
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
        ancestor: Ancestor | None,
        reports: int,
        report_seconds: float,
    ) -> None:
        self.run, self.data, self.judge, self.options = run, data, judge, options
        self.out, self.folder, self.rotate, self.started = out, folder, rotate, started
        self.ancestor = ancestor
        self.steps, self.batch_size = recipe.steps or 1, recipe.batch_size or 1
        self.every = max(1, self.steps // max(1, reports))
        self.report_seconds = report_seconds

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
            spare=spared(run.recipe.networks),
            balance=self.options.balance,
            rank=process,
            world_size=processes,
            workers=self.options.workers,
        )
        shown = progress and run.accelerator.is_main_process
        is_log = shown and not sys.stderr.isatty()
        line = minute_lines("trained", "steps")
        with tqdm(
            total=self.steps, initial=run.step, disable=not shown or is_log, unit="step", dynamic_ncols=True
        ) as bar:
            while run.step < self.steps and not self._exhausted() and not self._agreed(stop.requested or self._late()):
                self._step(batches)
                bar.update()
                if is_log:
                    line(run.step, self.steps)
                if run.step % self.every == 0 and run.step < self.steps:
                    bar.set_postfix_str(self._report())
        return self._finish(stop)

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

    def _finish(self, stop: Stop) -> FitResult:
        run = self.run
        self._check_losses()
        finished = run.step >= self.steps or self._exhausted()
        last: Mapping[str, float] = run.history[-1] if run.history else {}
        if not finished:
            self._save_checkpoint()
            last = self._preview(last) if not stop.requested or not self._has_model() else last
        elif not self._reported():
            self._report()
            last = run.history[-1] if run.history else {}
        run.accelerator.wait_for_everyone()
        from torchgenaug.synthesizers import load_synthesizer

        return FitResult(
            load_synthesizer(self.out) if self._has_model() else None,
            steps=run.step,
            finished=finished,
            signal=None if finished else stop.signal,
            distance=last.get("distance", float("nan")),
            num_judged=self.judge.num_judged if self.judge else 0,
            floor=self.judge.floor if self.judge else float("nan"),
            noise=self.judge.noise if self.judge else float("nan"),
            copied=last.get("copied", float("nan")),
            copied_reference=self.judge.reference if self.judge else float("nan"),
            seconds=time.monotonic() - self.started,
            pairs={name: value for name, value in last.items() if name.startswith(("psnr_db", "ssim"))},
        )

    def _has_model(self) -> bool:
        return (self.out / "synthesizer.json").exists()

    def _preview(self, last: Mapping[str, float]) -> Mapping[str, float]:
        """Judges and saves the model of a run that will go on; history and checkpoint stay as if it had not."""
        if self.judge is None:
            return last
        row = {"step": float(self.run.step)}
        synthesizer, samples = self._judged(self.judge, row)
        self._draw(samples, synthesizer)
        if self.options.patience is None or row["distance"] < self.run.best:
            self._save_model(synthesizer)
        return row

    def _report(self) -> str:
        """Judges the model, draws samples, saves both model and checkpoint; returns a line for the progress bar."""
        self._check_losses()
        run, row = self.run, {"step": float(self.run.step)}
        row |= run.losses.take()
        if self.judge is not None:
            synthesizer, samples = self._judged(self.judge, row)
            better = row["distance"] < run.best
            run.best, run.since_best = (row["distance"], 0) if better else (run.best, run.since_best + 1)
            run.history.append(row)
            self._draw(samples, synthesizer)
            write_history(run.history, self.folder)
            if better or self.options.patience is None:
                self._save_model(synthesizer)
        self._save_checkpoint()
        return "  ".join(f"{name} {value:.3g}" for name, value in row.items() if name != "step")

    def _judged(self, judge: Judge, row: dict[str, float]) -> tuple[Synthesizer, Batch]:
        """The synthesizer of now and its samples; distance and copies go into `row`."""
        started = time.monotonic()
        synthesizer = self.run.synthesizer()
        samples = judge.samples(synthesizer)
        row["distance"] = judge.distance(samples)
        row |= judge.pairs(samples)
        copied, too_much = judge.copied(samples)
        if not math.isnan(copied):
            row["copied"] = copied
        if too_much:
            warnings.warn(self._copy_warning(copied), stacklevel=2)
        self.report_seconds = max(self.report_seconds, time.monotonic() - started)
        return synthesizer, samples

    def _draw(self, samples: Batch, synthesizer: Synthesizer) -> None:
        picture = self.folder / "samples" / f"step-{self.run.step:07d}.png"
        draw_samples(samples, synthesizer, self.data, picture, self.rotate)

    def _save_model(self, synthesizer: Synthesizer) -> None:
        synthesizer.trained_on = self._trained_on()  # type: ignore[attr-defined]
        rewrite_synthesizer(synthesizer, self.out)

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
            "data": bare_name(self.data.name),
            "samples": list(self.data.ids),
            "patients": sorted(set(self.data.patients)),
            "steps": self.run.step,
        }
        if self.data.class_names:
            own["class_names"] = list(self.data.class_names)
        if self.data.reading:
            own["reading"] = dict(self.data.reading)
        return own if self.ancestor is None else self.ancestor.trained_on_too(own)

    def _exhausted(self) -> bool:
        return self.options.patience is not None and self._agreed(self.run.since_best >= self.options.patience)

    def _late(self) -> bool:
        limit = self.options.max_minutes
        return limit is not None and time.monotonic() - self.started + self.report_seconds > 60 * limit

    def _agreed(self, mine: bool) -> bool:
        """What the first process says, in every process: they must all stop at the same step."""
        if self.run.accelerator.num_processes == 1:
            return mine
        from accelerate.utils import broadcast

        flag = torch.tensor(float(mine), device=self.run.accelerator.device)
        return bool(broadcast(flag).item())
