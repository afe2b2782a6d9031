"""Synthesizers of earlier versions: same fingerprints, same samples, saved folders that still load.

``golden/samples.json`` holds what every conformance case of this folder gave when it was first recorded. To add the
cases that it lacks, and only these: ``python tests/synthesizers/test_golden_synthesizers.py``.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import shutil
import sys
import traceback
from pathlib import Path

import pytest
import torch

from torchgenaug import load_synthesizer, save_synthesizer
from torchgenaug.testing import SynthesizerConformance

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / "golden"
SEEDS = [3, 2**40 + 1, 77, 12]
RECORDED = json.loads((GOLDEN / "samples.json").read_text()) if (GOLDEN / "samples.json").exists() else {}
SAVED = sorted(path.parent.name for path in GOLDEN.glob("*/synthesizer.json"))
SMALL = 300_000  # bytes of a folder that is kept


def cases() -> dict[str, type[SynthesizerConformance]]:
    found = {}
    for path in sorted(FOLDER.glob("test_*.py")):
        if path == Path(__file__) or "SynthesizerConformance" not in path.read_text():
            continue
        try:
            module = importlib.import_module(path.stem)
        except pytest.skip.Exception:
            continue  # an optional library is absent
        for name, cls in vars(module).items():
            if inspect.isclass(cls) and issubclass(cls, SynthesizerConformance) and name.startswith("Test"):
                found[f"{path.stem}.{name}"] = cls
    return found


def samples_of(synthesizer, case):
    return case._samples(synthesizer, SEEDS)


def described(synthesizer, case):
    fields = {}
    for name, values in sorted(samples_of(synthesizer, case).items()):
        flat = values.double().reshape(-1)
        fields[name] = {
            "sha256": hashlib.sha256(values.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest(),
            "values": [round(value, 4) for value in flat[:: max(1, len(flat) // 12)][:12].tolist()],
        }
    return {"fingerprint": synthesizer.fingerprint, "fields": fields}


def check(found, expected):
    assert found["fingerprint"] == expected["fingerprint"]
    assert found["fields"].keys() == expected["fields"].keys()
    for name, field in expected["fields"].items():
        # Bits depend on the processor too: where they differ, the values have to agree.
        if found["fields"][name]["sha256"] != field["sha256"]:
            assert found["fields"][name]["values"] == pytest.approx(field["values"], abs=2e-3, rel=1e-3)


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_fingerprint_and_samples_are_those_of_earlier_versions(name):
    module, _, cls = name.partition(".")
    case = getattr(pytest.importorskip(module), cls)()
    check(described(case.make(), case), RECORDED[name])


@pytest.mark.parametrize("name", SAVED)
def test_saved_folders_of_earlier_versions_load(name):
    module, _, cls = name.partition(".")
    case = getattr(pytest.importorskip(module), cls)()
    check(described(load_synthesizer(GOLDEN / name), case), RECORDED[name])


def test_nothing_recorded_was_lost():
    assert set(RECORDED) <= set(cases())
    assert len(RECORDED) >= 50
    families = {json.loads((GOLDEN / name / "synthesizer.json").read_text())["family"] for name in SAVED}
    assert families >= {"diffusers", "module", "monai", "pythae", "two_stage", "dit", "ensemble", "stable_diffusion"}


def record() -> None:
    torch.set_num_threads(1)
    GOLDEN.mkdir(exist_ok=True)
    kept: dict[str, int] = {}
    for name, cls in cases().items():
        if name in RECORDED:
            continue
        case = cls()
        try:
            synthesizer = case.make()
            first, second = described(synthesizer, case), described(cls().make(), cls())
        except Exception:
            traceback.print_exc()
            continue
        if first != second:
            print(f"{name} is not the same twice, left out")
            continue
        RECORDED[name] = first
        family = getattr(synthesizer, "family", type(synthesizer).__name__)
        if kept.get(family, 0) < 1:
            try:
                save_synthesizer(synthesizer, GOLDEN / name)
            except Exception as error:
                print(f"{name} is not saved: {error}")
                continue
            size = sum(path.stat().st_size for path in (GOLDEN / name).rglob("*") if path.is_file())
            if size > SMALL:
                shutil.rmtree(GOLDEN / name)
            else:
                kept[family] = kept.get(family, 0) + 1
    (GOLDEN / "samples.json").write_text(json.dumps(RECORDED, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))
    record()
