"""Images without a label in a study file: the generator learns from them, the classifier does not; nothing leaks."""

from __future__ import annotations

import pytest
import torch

from torchgenaug.errors import ConfigurationError, LeakError
from torchgenaug.recipes.data.training_data import TensorSamples, TrainingData
from torchgenaug.recipes.options import Options
from torchgenaug.study.config import load_study
from torchgenaug.types import FieldSpec

TEXT = """
steps = 2
seeds = 3
[data]
name = "digits"
test = 0.25
validation = 0.25
[task]
batch_size = 4
[synthetic]
family = "acgan"
steps = 1
count = 4
[arms]
ratios = [0.5]
"""


def images(copied=None):
    """Eight labelled patients of two images each; each has one more image without a label, and so have six others.

    Args:
        copied: row of a labelled image that is among the unlabelled ones of a patient of its own, too.
    """
    draw = torch.Generator().manual_seed(0)
    values = torch.rand((30, 1, 16, 16), generator=draw)
    labels = torch.tensor([0, 1] * 8 + [-1] * 14)
    patients = [f"p{k // 2}" for k in range(16)] + [f"p{k}" for k in range(14)]
    if copied is not None:
        values[29] = values[copied]
    fields = {
        "image": FieldSpec((1, 16, 16), value_range=(0.0, 1.0)),
        "label": FieldSpec((), torch.int64, kind="scalar", value_range=(0, 1)),
    }
    samples = TensorSamples({"image": values, "label": labels})
    return TrainingData(samples, fields, tuple(f"image {k}" for k in range(30)), "digits", patients=tuple(patients))


@pytest.fixture
def study(tmp_path, monkeypatch):
    def load(text=TEXT, data=None):
        monkeypatch.setattr("torchgenaug.study.sections.load_data", lambda name, **options: data or images())
        small = Options(condition="label", steps=1, width=4, batch_size=4)
        monkeypatch.setattr("torchgenaug.study.generators.Generator._options", lambda self, with_masks: small)
        (tmp_path / "study.toml").write_text(text)
        return load_study(tmp_path / "study.toml", tmp_path / "out")

    return load


@pytest.mark.filterwarnings("ignore:.*held-out images have a label")
def test_the_generator_learns_from_them_and_the_classifier_does_not(study):
    made = study()
    split = made.splits[0]
    held_out = {*split.validation.patients, *split.test.patients}
    assert len(held_out) == 4
    assert all(int(part[k]["label"]) >= 0 for part in (split.train, split.test) for k in range(len(part)))
    arm = next(arm for arm in made.arms if arm.name == "mix 50%")
    trained_on = arm.source(split).trained_on
    further = {f"image {16 + k}" for k in range(14) if f"p{k}" not in held_out}
    assert set(trained_on["samples"]) <= {*split.train.ids, *further}  # a tenth of them judge it
    assert set(trained_on["samples"]) & further
    assert not held_out & set(trained_on["patients"])
    assert arm.settings["unlabelled"]["split-0"].startswith("10 images without a label")
    assert arm.settings["unlabelled"]["split-0"].endswith("4 of held-out patients left out")
    pseudo = next(arm for arm in made.arms if arm.name == "pseudo-labels, affine")
    assert pseudo.role == "control"  # the same images without a generator
    assert set(pseudo.source(split).ids) == further
    assert made.check() is not None


def test_a_test_image_among_them_is_a_leak(study):
    clean = study().splits[0].test.ids[0]
    with pytest.raises(LeakError, match="the images without a label must hold nothing of the validation and test"):
        study(data=images(copied=int(clean.split()[1])))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('family = "acgan"', 'family = "dcgan"', "the family 'dcgan', got 14 of 30 without one. Only these .*acgan"),
        ('family = "acgan"\nsteps = 1', 'model = "gan"', "a generator that is trained already, got 14 of 30"),
    ],
)
def test_generators_that_cannot_learn_from_them_and_the_advice(study, old, new, message):
    text = TEXT.replace(old, new)
    with pytest.raises(ConfigurationError, match=message):
        study(text)
    left = study(text.replace("[data]", "[data]\nlabelled_only = true"))
    assert not any(arm.name.startswith("pseudo") for arm in left.arms)
    assert all(k < 16 for k in (int(each.split()[1]) for each in left.splits[0].train.ids))


def test_only_images_of_held_out_patients_are_refused(study):
    data = images()
    own = data.select([row for row in range(30) if row < 16 or data.patients[row] in study().splits[0].test.patients])
    with pytest.raises(ConfigurationError, match="of other patients than those of the validation and test data"):
        study(data=own)
