"""Samples without a label: how they are written down, what keeps them, who learns from them, and who refuses."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes import FitOptions, Options, fit, load_data
from torchgenaug.recipes.batches import balanced_rows
from torchgenaug.recipes.build import build_recipe, describe_family, list_families
from torchgenaug.recipes.data.factory import FactorySamples
from torchgenaug.recipes.data.scan import RawData, conform
from torchgenaug.recipes.data.training_data import TensorSamples, TrainingData
from torchgenaug.recipes.families.ddpm import dropped_labels
from torchgenaug.types import FieldSpec


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16), np.uint8)).save(path)


def images(labels):
    """Data of these labels, -1: none."""
    count = len(labels)
    values = torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    fields = {
        "image": FieldSpec((1, 16, 16), value_range=(0.0, 1.0)),
        "label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, max(labels))),
    }
    samples = TensorSamples({"image": values, "label": torch.tensor(labels)})
    return TrainingData(samples, fields, tuple(f"row {k}" for k in range(count)), "images")


@pytest.mark.parametrize("name", ["unlabelled", "Unlabeled"])
def test_a_folder_of_images_without_a_class(tmp_path, name):
    for number, folder in enumerate(["cat", "cat", "dog", name, name, name]):
        picture(tmp_path / folder / f"{number}.png", number)
    data = load_data(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert sorted(data.labels().tolist()) == [-1, -1, -1, 0, 0, 1]
    assert any("3 of 6 samples have no label" in remark for remark in data.remarks)
    assert "3 without a label" in repr(data)
    assert sorted(data.labelled().labels().tolist()) == [0, 0, 1]


@pytest.mark.parametrize("line", ["1.png", "1.png,", "1.png, "])
def test_an_empty_cell_is_refused_with_what_to_write(tmp_path, line):
    """It may be a slip; the advice is executed."""
    for number in range(4):
        picture(tmp_path / f"{number}.png", number)
    text = f"file,label\n0.png,a\n{line}\n2.png,b\n3.png,b\n"
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(
        ConfigurationError, match=r"labels\.csv must have a label .* nothing for 1\.png.*write NA where"
    ):
        load_data(tmp_path)
    (tmp_path / "labels.csv").write_text(text.replace(line, "1.png,NA", 1))
    assert load_data(tmp_path).labels().tolist() == [0, -1, 1, 1]


@pytest.mark.parametrize("cell", ["unlabelled", "NaN", "NA"])
def test_a_cell_that_states_no_class(tmp_path, cell):
    for number in range(4):
        picture(tmp_path / f"{number}.png", number)
    (tmp_path / "labels.csv").write_text(f"file,label\n0.png,a\n1.png,{cell}\n2.png,b\n3.png,b\n")
    data = load_data(tmp_path)
    assert data.labels().tolist() == [0, -1, 1, 1]
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{k}.png,{cell}\n" for k in range(4)))
    with pytest.raises(ConfigurationError, match="must have a label for some file"):
        load_data(tmp_path)


@pytest.mark.parametrize(("written", "expected"), [("NA", [0, 1, -1, 0]), ("none of them", [0, 1, 2, 0])])
def test_minus_one_in_a_table_is_asked_about(tmp_path, written, expected):
    """Both ways out that the message names are taken."""
    for number in range(4):
        picture(tmp_path / f"{number}.png", number)
    text = "file,label\n0.png,0\n1.png,1\n2.png,-1\n3.png,0\n"
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ConfigurationError, match="must say what -1 stands for, got 1 of 4 labels -1"):
        load_data(tmp_path)
    (tmp_path / "labels.csv").write_text(text.replace("-1", written))
    assert load_data(tmp_path).labels().tolist() == expected
    (tmp_path / "labels.csv").write_text(text.replace(",0", ",-1"))  # -1 and 1: two classes
    assert load_data(tmp_path).class_names == ("-1", "1")


@pytest.mark.parametrize("nothing", [None, math.nan, np.float32("nan"), torch.tensor(math.nan)])
@pytest.mark.parametrize("kind", [tuple, dict])
def test_a_data_set_that_returns_no_label(nothing, kind):
    labels = [0, nothing, 1, 1, nothing]
    dataset = []
    for k, label in enumerate(labels):
        image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(k))
        dataset.append((image, label) if kind is tuple else {"image": image, "label": label})
    expected = [-1 if label is nothing else label for label in labels]
    for turn in (0, 1):
        samples = FactorySamples(dataset[turn:] + dataset[:turn])
        data = conform(RawData(samples, "data", tuple(map(str, range(5))), str), None)
        assert data.labels().tolist() == expected[turn:] + expected[:turn]
        assert [int(data.samples[k]["label"]) for k in range(5)] == data.labels().tolist()


def test_minus_one_is_no_label_by_accident():
    dataset = [(torch.rand(1, 16, 16), label) for label in (0, 1, -1)]
    with pytest.raises(ConfigurationError, match=r"got -1 at 2\. Return an int.*or None where the class is not known"):
        conform(RawData(FactorySamples(dataset), "data", ("a", "b", "c"), str), None)
    advised = [(image, None if label == -1 else label) for image, label in dataset]
    data = conform(RawData(FactorySamples(advised), "data", ("a", "b", "c"), str), None)
    assert data.labels().tolist() == [0, 1, -1]


def test_labels_that_are_all_missing_are_no_labels():
    dataset = [{"image": torch.rand(1, 16, 16), "label": None} for _ in range(3)]
    data = conform(RawData(FactorySamples(dataset), "data", ("a", "b", "c"), str), None)
    assert set(data.fields) == set(data.samples[0]) == {"image"}


def test_limits_and_balance_leave_them_alone():
    data = images([0, 0, 0, 0, 1, 1, -1, -1, -1])
    assert data.limit(2).labels().tolist().count(-1) == 3
    assert data.limit({0: 1}).labels().tolist() == [0, 1, 1, -1, -1, -1]
    shown = data.labels()[balanced_rows(data)]
    assert [int((shown == each).sum()) for each in (0, 1, -1)] == [4, 4, 3]
    train, held_out = data.split(0.3)
    assert train.num_unlabelled + held_out.num_unlabelled == 3


def test_families_use_them_or_refuse():
    data = images([0, 1, -1, -1])
    for family in list_families():
        about = describe_family(family)
        if "label" not in about.conditions or about.unlabelled or about.teacher or about.pretrained:
            continue
        with pytest.raises(ConfigurationError, match=re.escape("got 2 of 4 without one in 'images'")) as caught:
            build_recipe(family, data, Options(condition="label", steps=1, batch_size=2))
        assert "--labelled-only" in str(caught.value)
    assert {each for each in list_families() if describe_family(each).unlabelled} == {"ddpm", "ldm", "acgan"}


def test_training_with_images_without_a_label(tmp_path):
    data, held_out = images([0, 1, -1, -1] * 4), images([0, 1, -1] * 2)
    recipe = Options(condition="label", steps=2, batch_size=8, width=8)
    fitted = fit("acgan", data, tmp_path, held_out=held_out, recipe=recipe, options=FitOptions(reports=1),
                 device="cpu", progress=False)  # fmt: skip
    assert fitted.synthesizer.num_classes == 2
    assert len(fitted.synthesizer.trained_on["samples"]) == 16
    image = fitted.synthesizer.synthesize([0, 1], {"label": torch.tensor([0, 1])})["image"]
    assert torch.isfinite(image).all()


def test_diffusion_takes_them_as_images_of_any_class():
    labels = dropped_labels({"label": torch.tensor([-1] * 50 + [1] * 50)}, 2)
    assert set(labels[:50].tolist()) == {2}
    assert set(labels[50:].tolist()) <= {1, 2}


def test_a_batch_without_any_label_teaches_the_critic_no_class():
    recipe = build_recipe("acgan", images([0, 1, -1, -1]), Options(condition="label", steps=10, batch_size=2, width=8))
    batch = {"image": torch.rand(2, 1, 16, 16), "label": torch.tensor([-1, -1])}
    losses = recipe.train_step(batch, lambda losses: None, 0.0)
    assert losses["critic_class"] == 0
    assert all(torch.isfinite(value).all() for value in losses.values())
