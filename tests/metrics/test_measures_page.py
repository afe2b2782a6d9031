"""The page on measures: its examples run, and its tables leave no measure out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import torchgenaug
from torchgenaug import metrics

PAGE = Path(torchgenaug.__file__).parents[1] / "docs" / "measures.md"


@pytest.mark.filterwarnings("ignore::torchgenaug.errors.SmallSampleWarning")
def test_examples_run():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            exec(compile(block, PAGE.name, "exec"), names)
    assert all(isinstance(each, metrics.Measurement) for each in names["results"].values())


def test_every_measure_stands_in_a_table_with_its_source_and_direction():
    text = PAGE.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    kinds = (metrics.SetMeasure, metrics.PairMeasure, metrics.LabelMeasure)
    measures = {name: getattr(metrics, name) for name in metrics.__all__ if name.isupper()}
    single = {name: each for name, each in measures.items() if isinstance(each, kinds)}
    assert len(single) > 25
    for name, measure in single.items():
        row = next((row for row in rows if f"`{name}`" in row), None)
        assert row is not None, f"{name} is missing"
        assert f"| {measure.better} |" in row, name
        assert measure.source.split(",")[0].split(" et al")[0] in row, name


def test_every_measure_has_an_independent_check():
    section = PAGE.read_text(encoding="utf-8").partition("## What each measure was checked against")[2]
    rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| `")]
    kinds = (metrics.SetMeasure, metrics.PairMeasure, metrics.LabelMeasure)
    exported = {name for name in metrics.__all__ if isinstance(getattr(metrics, name), kinds)}
    functions = {"relative_mmd_test", "lpips_measure", "hausdorff_measure", "compare_label_intensities", "roc_auc"}
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row[0])} == exported | functions
    for _, against, tests in rows:
        assert against.strip()
        file, *names = re.findall(r"`([\w.]+)`", tests)
        code = (Path(__file__).parent / file).read_text(encoding="utf-8")
        assert names
        assert all(f"def {name}(" in code for name in names), names
