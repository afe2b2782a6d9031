"""Does each option of a GAN family beat its base? Same data, steps and seeds; few minutes of one core each.

*Distance* is the sliced Wasserstein distance of 256 samples to as many held-out real images, divided by that of real
training images (1: as close); *noise* is that of noise. *Modes* is a planted count: images of two channels, each a
digit, in 100 known combinations, equally frequent; a classifier of digits finds how many of them 1,000 samples have,
and how far (in nats) their frequencies are from equal. *Stripes* are high frequencies along one axis of a volume, see
`benchmarks.gans.stripes`. Digits have 16 x 16 pixels here, "few" are 100 of them.

    python -m benchmarks.gans --out FOLDER [--only NAME]      # goes on where it was interrupted
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.harness import RESULTS, publish
from torchgenaug.metrics import COVERAGE, PRECISION, FeatureSets, RadiomicsFeatures, compare_sets
from torchgenaug.recipes import FitOptions, Options, TrainingData, fit, load_data
from torchgenaug.recipes import report as report_module
from torchgenaug.recipes.data.training_data import TensorSamples, spread_rows
from torchgenaug.recipes.pairs import translation_quality
from torchgenaug.study.networks import SmallClassifier
from torchgenaug.types import FieldSpec

_MODES, _JUDGED, _COUNTED = 100, 256, 1000
_CLASSIFIER_STEPS = 600


class Row(NamedTuple):
    """A family with settings, on data; `base` names the row that it is compared with."""

    name: str
    family: str
    data: str
    steps: int
    settings: Mapping[str, Any]
    base: str | None = None
    options: Mapping[str, Any] = {}
    limit: int | None = None
    size: int = 16
    seeds: int = 2


SAGAN = {"attention": True, "spectral": True}
MASK, SOURCE = {"condition": "mask"}, {"condition": "source"}


def _arms(base: Row, **options: Mapping[str, Any]) -> tuple[Row, ...]:
    """A row, and one for each option that is added to it."""
    arms = (
        base._replace(name=f"{base.name} {name}", settings={**base.settings, **settings}, base=base.name)
        for name, settings in options.items()
    )
    return base, *arms


_LOSSES: dict[str, Mapping[str, Any]] = {
    "ada": {"ada": True},
    "perceptual": {"perceptual": 10.0},
    "style": {"style": 100.0},
    "global": {"global_critic": True},
}
_GAN_OPTIONS: dict[str, Mapping[str, Any]] = {
    "ada": {"ada": True},
    "attention": {"attention": True},
    "spectral": {"spectral": True},
    "discrimination": {"batch": "discrimination"},
    "without_r1": {"r1": 0.0},
}
_STYLE_OPTIONS: dict[str, Mapping[str, Any]] = {
    "without_ada": {"ada": False},
    "without_path": {"path_length": 0.0},
    "without_r1": {"r1": 0.0},
    "truncated": {"truncation": 0.7},
}
ROWS = (
    *_arms(
        Row("dcgan modes", "dcgan", "modes", 500, {"batch": "none"}),
        spread={"batch": "spread"},
        discrimination={"batch": "discrimination"},
        attention={"attention": True},
        spectral={"spectral": True},
        SAGAN=SAGAN,
    ),
    *_arms(Row("dcgan few", "dcgan", "digits", 600, {}, limit=10), **_GAN_OPTIONS),
    *_arms(Row("dcgan nuclei", "dcgan", "nuclei", 400, {}), **_GAN_OPTIONS),
    *_arms(Row("stylegan2 few", "stylegan2", "digits", 600, {}, limit=10), **_STYLE_OPTIONS),
    *_arms(Row("stylegan2 nuclei", "stylegan2", "nuclei", 400, {}), **_STYLE_OPTIONS),
    Row("pggan few", "pggan", "digits", 600, {}, "dcgan few", limit=10),
    *_arms(Row("pix2pix brain", "pix2pix", "brain", 250, {}, None, MASK, size=32), **_LOSSES),
    *_arms(Row("pix2pix contrasts", "pix2pix", "brain-t1-t2", 250, {}, None, SOURCE, size=32), **_LOSSES),
    Row("vae digits", "vae", "digits", 600, {}),
    Row("introvae digits", "introvae", "digits", 600, {}, "vae digits"),
)


def main() -> None:
    """Trains what is missing in the folder, and writes the results of the whole of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for row in ROWS:
        if row.name.startswith(arguments.only):
            for seed in range(row.seeds):
                _measured(row, seed, arguments.out)
    table = _table(arguments.out)
    for line in table:
        print(json.dumps(line))
    if arguments.publish:
        rows = _published() | {row["name"]: row for row in table}
        publish("gan_options", {"rows": list(rows.values())}, quick=False)


def _published() -> dict[str, Mapping[str, Any]]:
    """The rows of the last results, which stay unless they are measured again."""
    document = json.loads((RESULTS / "gan_options.json").read_text())
    before = {"measured": f"{document['date']}, commit {document['commit']}"}
    return {row["name"]: before | row for row in document["results"]["rows"]}


def _measured(row: Row, seed: int, out: Path) -> None:
    path = out / f"{row.name} {seed}.json".replace(" ", "_")
    if path.exists():
        return
    data, held_out = _data(row, "train", seed), _data(row, "held_out", 0)
    began = time.process_time()
    report_module.NUM_JUDGED = _JUDGED
    result = fit(
        row.family,
        data,
        path.with_suffix(""),
        held_out=held_out,
        recipe=Options(steps=row.steps, settings=row.settings, **row.options),
        options=FitOptions(reports=1, seed=seed),
        device="cpu",
        progress=False,
    )
    numbers = {
        "distance": result.distance / result.floor,
        "noise": result.noise / result.floor,
        "cpu_minutes": (time.process_time() - began) / 60,
    }
    if row.data == "modes":
        numbers |= _modes(_samples(result.synthesizer, _COUNTED))
    elif row.options.get("condition") == "source":
        numbers["psnr_db"] = translation_quality(result.synthesizer, data, held_out)["psnr_db"]
    elif "condition" not in row.options:
        numbers |= _precision_and_coverage(_samples(result.synthesizer, _JUDGED), held_out)
    path.write_text(json.dumps(numbers))


def _precision_and_coverage(images: Tensor, held_out: TrainingData) -> dict[str, float | None]:
    """Of radiomics-like features: how many samples are near real ones, and how many real ones near samples."""
    real = torch.stack([held_out.samples[k]["image"] for k in spread_rows(len(held_out), len(images))])
    sets = FeatureSets.extract(RadiomicsFeatures(), real, images, value_range=held_out.fields["image"].value_range)
    return {
        measure.name: result.value
        for measure, result in zip(
            (PRECISION, COVERAGE), compare_sets(sets, (PRECISION, COVERAGE), splits=2).values(), strict=True
        )
    }


def _samples(synthesizer: Any, count: int) -> Tensor:
    return torch.cat([synthesizer.synthesize(list(range(k, k + 16)))["image"] for k in range(0, count, 16)])[:count]


def _data(row: Row, split: Any, seed: int) -> TrainingData:
    if row.data == "modes":
        return pairs_of_digits(split)
    data = load_data(row.data, split=split, size=row.size)
    return data.limit(row.limit, seed) if row.limit and split == "train" else data


def pairs_of_digits(split: Any) -> TrainingData:
    """Images (2, 16, 16) of two digits, 40 of each of the 100 combinations (held out: 5)."""
    digits = load_data("digits", split=split)
    labels = digits.labels()
    draw = torch.Generator().manual_seed(0)
    each = 40 if split == "train" else 5
    rows = {k: (labels == k).nonzero()[0] for k in range(10)}
    pairs, ids = [], []
    for mode in range(_MODES):
        for kind in divmod(mode, 10):
            chosen = torch.randint(len(rows[kind]), (each,), generator=draw)
            pairs.append(torch.stack([digits.samples[int(rows[kind][k])]["image"] for k in chosen]))
        ids += [f"pair {mode} {k}" for k in range(each)]
    both = torch.stack([torch.cat([a, b], 1) for a, b in zip(pairs[::2], pairs[1::2], strict=True)]).flatten(0, 1)
    images = functional.avg_pool2d(both, 2)
    return TrainingData(
        TensorSamples({"image": images}), {"image": FieldSpec((2, 16, 16), value_range=(0, 1))}, tuple(ids), "modes"
    )


_classifiers: list[nn.Module] = []


def _classifier() -> nn.Module:
    """A classifier of digits of 16 x 16."""
    if not _classifiers:
        digits = load_data("digits")
        images = functional.avg_pool2d(torch.stack([digits.samples[k]["image"] for k in range(len(digits))]), 2)
        labels = torch.from_numpy(digits.labels()).long()
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(0)
            network = SmallClassifier(10)
            optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
            for _ in range(_CLASSIFIER_STEPS):
                rows = torch.randint(len(images), (64,))
                loss = functional.cross_entropy(network(images[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        _classifiers.append(network.eval())
    return _classifiers[0]


@torch.no_grad()
def _modes(images: Tensor) -> dict[str, float]:
    """How many of the 100 modes are among the samples, and the divergence of their frequencies from equal ones."""
    first, second = (_classifier()(images[:, k : k + 1]).argmax(1) for k in range(2))
    counts = torch.bincount(10 * first + second, minlength=_MODES).double()
    shares = counts / counts.sum()
    divergence = float((shares * (shares * _MODES).clamp(min=1e-12).log()).sum())
    return {"modes": float((counts > 0).sum()), "divergence": divergence}


def _table(out: Path) -> list[dict[str, Any]]:
    table = []
    for row in ROWS:
        paths = [out / f"{row.name} {seed}.json".replace(" ", "_") for seed in range(row.seeds)]
        runs = [json.loads(path.read_text()) for path in paths if path.exists()]
        if not runs:
            continue
        line: dict[str, Any] = {"name": row.name, "base": row.base, "seeds": len(runs), "steps": row.steps}
        for key in sorted(set(runs[0]) - {"copied"}):  # which held-out brain slices cannot tell
            values = [run[key] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else math.nan
            line[key] = {"mean": statistics.mean(values), "spread": spread, "values": values}
        table.append(line)
    return table


if __name__ == "__main__":
    main()
