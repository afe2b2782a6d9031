"""Does each setting of a family beat the family without it? Equal processor time, same data and seeds.

Settings against collapse and those of translation have a benchmark of their own (`benchmarks.gans`, equal steps); here
are all the others, and those of GANs on few and on other images. Before each training a few seconds decide how many
steps its time allows, so that a setting which costs time has fewer steps. What matters only when sampling (truncation,
the corrector, guidance, the jumps of RePaint) is measured on the trained base.

*Distance* is the sliced Wasserstein distance to held-out images, over that of real training images (1: as near); below
it for conditions: the share of the wanted classes, PSNR of held-out pairs.

    python -m benchmarks.settings --out FOLDER [--only FAMILY]      # goes on where it was interrupted
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from benchmarks.families import seconds_per_step
from benchmarks.family_quality import _filled, _labels_obeyed
from benchmarks.family_rows import Row
from benchmarks.harness import publish
from torchgenaug.contracts import Stored, Synthesizer
from torchgenaug.metrics import COVERAGE, PRECISION, FeatureSets, RadiomicsFeatures, compare_sets
from torchgenaug.recipes import FitOptions, Options, TrainingData, fit
from torchgenaug.recipes import report as report_module
from torchgenaug.recipes.build import describe_family, family_view, given_fields
from torchgenaug.recipes.data.training_data import spread_rows
from torchgenaug.recipes.families.inpaint import with_hidden_regions
from torchgenaug.recipes.pairs import translation_quality
from torchgenaug.recipes.report import Judge
from torchgenaug.synthesizers import DiffusionEditSynthesizer, ModuleSynthesizer, build_network

SEEDS = (0, 1)
Sampled = Mapping[str, Callable[[Any], Synthesizer]]


class Group(NamedTuple):
    """A family on data, and what is changed, one thing at a time.

    Attributes:
        seconds: of training, processor time.
        trained: settings of each further training.
        sampled: what is made of the trained base.
        limit: images of each class; None: all.
        judged: samples that are compared with held-out images.
        filling: judge how a hidden region is filled.
    """

    family: str
    data: str
    seconds: float
    trained: Mapping[str, Mapping[str, Any]]
    sampled: Sampled = MappingProxyType({})
    options: Options = Options()
    size: int = 16
    limit: int | None = None
    judged: int = 64
    filling: bool = False

    @property
    def name(self) -> str:
        """Family, data and how few images."""
        few = "" if self.limit is None else f", {self.limit} of each class"
        return f"{self.family} {self.data.split(':')[-1]}{few}"


def rebuilt(**changes: Any) -> Callable[[Any], Synthesizer]:
    """The same weights in a network that is built with other arguments."""

    def change(synthesizer: Any) -> Synthesizer:
        old = synthesizer.module
        module: Any = build_network(old.blueprint["class"], **{**old.blueprint["arguments"], **changes})
        module.load_state_dict(old.state_dict())
        settings = dict(synthesizer.stored().settings)
        if settings["latent_shape"] is not None and hasattr(module, "latent_shape"):
            settings["latent_shape"] = list(module.latent_shape)
        stored = Stored(settings, {"module": module})
        return ModuleSynthesizer.from_stored(stored, device=torch.device("cpu"), dtype=None)

    return change


def resampled(**changes: Any) -> Callable[[Any], Synthesizer]:
    """The same diffusion model with other settings of its sampling."""

    def change(synthesizer: Any) -> Synthesizer:
        stored = synthesizer.stored()
        other = stored._replace(settings={**stored.settings, **changes})
        made: Synthesizer = type(synthesizer).from_stored(other, device=torch.device("cpu"), dtype=None)
        return made

    return change


def repainted(steps: int, resamples: int) -> Callable[[Any], Synthesizer]:
    """The model as one that fills regions: ``steps * resamples`` calls of the network."""
    return lambda synthesizer: DiffusionEditSynthesizer(synthesizer, steps=steps, resamples=resamples)


_LABEL, _MASK, _SOURCE = Options(condition="label"), Options(condition="mask"), Options(condition="source")
_CRITIC: dict[str, Mapping[str, Any]] = {
    "ada=true": {"ada": True},
    "attention=true": {"attention": True},
    "spectral=true": {"spectral": True},
    "smooth=true": {"smooth": True},
    "batch=discrimination": {"batch": "discrimination"},
}
_NOT: dict[str, Mapping[str, Any]] = {"batch=none": {"batch": "none"}, "r1=0": {"r1": 0.0}}
_STYLE: dict[str, Mapping[str, Any]] = {
    "ada=false": {"ada": False},
    "r1=0": {"r1": 0.0},
    "path_length=0": {"path_length": 0.0},
    "mixing=0": {"mixing": 0.0},
}
_ADA: dict[str, Mapping[str, Any]] = {"ada=true": {"ada": True}}
_STRUCTURE: dict[str, Mapping[str, Any]] = {"structure=1": {"structure": 1.0}}
GROUPS = (
    Group(
        "stylegan2",
        "digits",
        12,
        _STYLE,
        {"truncation=0.7": rebuilt(truncation=0.7), "truncation=0.4": rebuilt(truncation=0.4)},
        limit=10,
        judged=256,
    ),
    Group("dcgan", "digits", 8, {**_CRITIC, **_NOT}, limit=10, judged=256),
    Group(
        "acgan",
        "digits",
        8,
        {**_CRITIC, **_NOT},
        options=Options(condition="label"),
        limit=10,
        judged=256,
    ),
    Group("wgan-gp", "digits", 8, _CRITIC, limit=10, judged=256),
    Group("pggan", "digits", 12, _ADA, limit=10, judged=256),
    Group("spade", "brain", 8, _ADA, options=_MASK, size=32),
    Group("cyclegan", "brain-t1-t2", 10, _ADA, options=_SOURCE, size=32),
    Group("unit", "brain-t1-t2", 10, {**_STRUCTURE, **_ADA}, options=_SOURCE, size=32),
    Group("munit", "brain-t1-t2", 10, {**_STRUCTURE, **_ADA}, options=_SOURCE, size=32),
    Group("cut", "brain-t1-t2", 10, _ADA, options=_SOURCE, size=32),
    Group("mm-gan", "brain-t1-t2", 10, _ADA, size=32),
    Group("inpaint", "nuclei", 10, _ADA, options=_MASK, size=32),
    Group("ddgan", "digits", 15, _ADA, options=_LABEL),
    Group(
        "score-sde",
        "digits",
        120,  # after 16 s its samples were noise
        {"equation=ve": {"equation": "ve"}},
        {
            "corrector=false": rebuilt(corrector=False),
            "corrector=false, 50 steps": rebuilt(corrector=False, steps=50),
        },
        options=Options(condition="label", sampling_steps=25),
    ),
    Group(
        "ddpm",
        "digits",
        20,
        {},
        {
            "--guidance-scale 2": resampled(guidance_scale=2.0),
            "--guidance-scale 4": resampled(guidance_scale=4.0),
            "--sampling-steps 10": resampled(steps=10),
            "--sampling-steps 40": resampled(steps=40),
        },
        options=_LABEL,
        judged=128,
    ),
    Group(
        "ddpm",
        "nuclei",
        20,
        {},
        {
            "25 steps, resamples=1": repainted(25, 1),
            "25 steps, resamples=5": repainted(25, 5),
            "125 steps, resamples=1": repainted(125, 1),
        },
        filling=True,
    ),
    Group("vqvae2", "digits", 15, {"codes=512": {"codes": 512}}, options=_LABEL),
    Group(
        "countersynth",
        "benchmarks.brain_sizes:brain_sizes",
        8,
        {"volume=0": {"volume": 0.0}, **_ADA},
        options=_LABEL,
    ),
    Group("introvae", "digits", 12, {"rejection=0": {"rejection": 0.0}}, options=_LABEL, judged=256),
    Group("two-stage-vae", "brain", 12, {"adversarial=0": {"adversarial": 0.0}}, options=Options(with_mask=True)),
    Group("ldm", "brain-3d", 150, {"adversarial=0": {"adversarial": 0.0}}, options=Options(batch_size=4)),
    Group("ldm", "digits", 40, {"adversarial=0": {"adversarial": 0.0}}, options=_LABEL, judged=256),
    Group("ldm", "brain", 60, {"adversarial=0": {"adversarial": 0.0}}, size=32),
    Group("slices", "brain-3d", 16, {"slices_per_volume=2": {"slices_per_volume": 2}}),
)


def main() -> None:
    """Trains what is missing in the folder, and writes the results of the whole of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="family, or the beginning of 'FAMILY DATA'")
    parser.add_argument("--seed", type=int, choices=SEEDS, help="one of them only")
    parser.add_argument("--publish", action="store_true", help="keep the folder's results as results/settings.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for group in GROUPS:
        if group.name.startswith(arguments.only):
            for seed in SEEDS if arguments.seed is None else (arguments.seed,):
                for arm in ("", *group.trained):
                    measure_arm(group, arm, seed, arguments.out)
    rows = table(arguments.out)
    for row in rows:
        print(json.dumps(row))
    if arguments.publish:
        publish("settings", {"rows": rows}, quick=False)


def measure_arm(group: Group, arm: str, seed: int, out: Path) -> None:
    """Trains a family with one setting more, or the base (``""``) with all that is made of it."""
    if _kept(out, group, arm, seed).exists():
        return
    row = Row(group.family, group.data, group.options, size=group.size)
    data, held_out = row.read("train"), row.read("held_out")
    if group.limit is not None:
        data = data.limit(group.limit, seed)
    batch_size = group.options.batch_size or describe_family(group.family).batch_size
    options = replace(group.options, batch_size=batch_size, settings=dict(group.trained.get(arm, {})))
    seen = family_view(group.family, data, options)
    steps = max(2, round(group.seconds / seconds_per_step(group.family, seen, options, 1.0)))
    began = time.process_time()
    model = fit(
        group.family,
        data,
        out / f"{group.name} {arm} {seed}".replace(" ", "_"),
        held_out=held_out,
        recipe=replace(options, steps=steps),
        options=FitOptions(reports=1, seed=seed),
        device="cpu",
        progress=False,
    ).synthesizer
    taken = {"steps": steps, "cpu_seconds": time.process_time() - began}
    judge = _judge(group, seen, family_view(group.family, held_out, options), options)
    models: Mapping[str, Any] = {arm: model}
    if not arm:
        made = {name: change(model) for name, change in group.sampled.items()}
        models = made if group.filling else {arm: model, **made}
    for name, each in models.items():
        _kept(out, group, name, seed).write_text(json.dumps(taken | _quality(group, each, judge)))
    if group.filling and not arm:
        _kept(out, group, arm, seed).write_text("{}")


def _kept(out: Path, group: Group, arm: str, seed: int) -> Path:
    return out / f"{group.name} {arm or 'base'} {seed}.json".replace(" ", "_")


def _judge(group: Group, seen: TrainingData, held_out: TrainingData, options: Options) -> Judge:
    report_module.NUM_JUDGED = group.judged
    if group.filling:
        seen, held_out = (with_hidden_regions(each, options) for each in (seen, held_out))
        return Judge(seen, held_out, "source")
    return Judge(seen, held_out, given_fields(group.family, options))


def _quality(group: Group, model: Any, judge: Judge) -> dict[str, float | None]:
    began = time.process_time()
    samples = judge.samples(model)
    seconds = time.process_time() - began
    numbers: dict[str, float | None] = {
        "distance": judge.distance(samples) / judge.floor,
        "noise": judge.noise / judge.floor,
        "samples_per_cpu_second": len(samples["image"]) / seconds,
    }
    if "label" in samples and "label" in judge.data.fields:
        numbers |= _labels_obeyed(samples, judge)
    if group.filling:
        numbers["psnr_db"] = _filled(model, judge, judge.data.image_shape[0])["psnr_db"]
    elif group.options.condition == "source":
        quality = translation_quality(model, judge.data, judge.held_out)
        numbers |= {name: quality[name] for name in ("psnr_db", "ssim")}
    elif judge.data.spatial_dims == 2:
        rows = spread_rows(len(judge.held_out), len(samples["image"]))
        real = torch.stack([judge.held_out.samples[k]["image"] for k in rows])
        limits = judge.data.fields["image"].value_range or (0.0, 1.0)
        sets = FeatureSets.extract(RadiomicsFeatures(), real, samples["image"], value_range=limits)
        found = compare_sets(sets, (PRECISION, COVERAGE), splits=2).values()
        numbers |= {measure.name: each.value for measure, each in zip((PRECISION, COVERAGE), found, strict=True)}
    return numbers


def table(out: Path) -> list[dict[str, Any]]:
    """One row for each arm: every number as a list over the seeds; whether both seeds, or their mean, beat the base."""
    rows = []
    for group in GROUPS:
        base: list[float] = []
        for arm in ("", *group.trained, *group.sampled):
            kept = [_kept(out, group, arm, seed) for seed in SEEDS]
            runs = [run for path in kept if path.exists() and (run := json.loads(path.read_text()))]
            if not runs:
                continue
            numbers = {key: [run.get(key) for run in runs] for key in runs[0]}
            base = base or numbers["distance"]
            closer = [a < b for a, b in zip(numbers["distance"], base, strict=False)]
            verdict = "closer" if all(closer) else "mixed" if any(closer) else "not closer"
            first = numbers["distance"] is base
            rows.append(
                {"group": group.name, "size": group.size, "arm": arm or "base", "base": first, **numbers}
                | ({} if first else {"distance_verdict": verdict})
            )
    return rows


if __name__ == "__main__":
    main()
