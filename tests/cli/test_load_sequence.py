from __future__ import annotations

import sys

import pytest
import torch

from torchgenaug import ClassLabels
from torchgenaug.cli.load import load_sequence, own_device
from torchgenaug.errors import ConfigurationError


@pytest.fixture
def model(tmp_path, monkeypatch):
    (tmp_path / "model_for_load.py").write_text(
        "from torchgenaug import ClassLabels, SyntheticSequence\n"
        "from torchgenaug.testing import AnalyticSynthesizer\n"
        "def make():\n    return AnalyticSynthesizer((8, 8), num_classes=4)\n"
        "def sequence():\n    return SyntheticSequence(make(), ClassLabels(4))\n"
        "def ones():\n    return ClassLabels(4, weights=[0, 1, 0, 0])\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "model_for_load", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return "model_for_load:make"


def test_class_weights_are_the_shares(model):
    sequence = load_sequence(model, class_weights="0.5,0.3,0.2")
    assert sequence.conditions.fingerprint == ClassLabels(3, weights=[0.5, 0.3, 0.2]).fingerprint
    assert sequence.condition(range(100))["label"].bincount().tolist() == [50, 30, 20]
    assert load_sequence(model).conditions.num_classes == 4


@pytest.mark.parametrize(
    ("weights", "classes", "message"),
    [
        ("half", None, "--class-weights must be numbers with commas between them, got 'half'"),
        ("1,", None, "--class-weights must be numbers"),
        ("1,2", 3, "`weights` must be 3 finite numbers"),
        ("0,0", None, "`weights` must be 2 finite numbers"),
    ],
)
def test_other_class_weights_are_refused(model, weights, classes, message):
    with pytest.raises(ConfigurationError, match=message):
        load_sequence(model, class_weights=weights, num_classes=classes)


def test_conditions_come_from_a_factory(model):
    sequence = load_sequence(model, conditions="model_for_load:ones", seed=3)
    assert sequence.condition(range(5))["label"].tolist() == [1] * 5
    assert sequence.seed == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conditions": "model_for_load:make"}, "--conditions must give conditions .* got AnalyticSynthesizer"),
        (
            {"conditions": "model_for_load:absent"},
            "--conditions must name a function or class of .* got 'absent'",
        ),
        ({"conditions": "model_for_load"}, "--conditions must be package.module:factory, got 'model_for_load'"),
        ({"conditions": "model_for_load:ones", "num_classes": 4}, "--classes and --class-weights must be left out"),
        ({"conditions": "model_for_load:ones", "class_weights": "1,1"}, "--classes and --class-weights must be left"),
    ],
)
def test_other_conditions_are_refused(model, options, message):
    with pytest.raises(ConfigurationError, match=message):
        load_sequence(model, **options)


def test_a_sequence_has_its_own_class_weights(model):
    with pytest.raises(ConfigurationError, match="--steps and --truncation must be left out"):
        load_sequence(model.replace("make", "sequence"), class_weights="1,1")


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert own_device(None) == "cpu"
    assert own_device("cuda:1") == "cuda:1"
    current = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "set_device_index", current.append)
    assert own_device(None) == "cuda:0"
    for local, expected in {"0": "cuda:0", "1": "cuda:1", "3": "cuda:1"}.items():
        monkeypatch.setenv("LOCAL_RANK", local)
        assert own_device(None) == own_device("cuda") == expected
        assert (own_device("cpu"), own_device("cuda:0")) == ("cpu", "cuda:0")
    assert current == [0, 0, 0, 1, 1, 1, 1]
