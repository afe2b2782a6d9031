from __future__ import annotations

import pickle

import pytest
import torch

from torchgenaug import DiffusionEditSynthesizer, load_synthesizer, save_synthesizer
from torchgenaug.contracts import DenoisingModel
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers import DiffusersSynthesizer, MonaiSynthesizer, build_network
from torchgenaug.testing import SynthesizerConformance
from torchgenaug.types import FieldSpec

SHAPE = (1, 8, 8)


def diffusers_model(channels=1, classes=None, **options):
    from diffusers import DDIMScheduler

    torch.manual_seed(0)
    unet = build_network(
        "diffusers:UNet2DModel",
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=[8],
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=["DownBlock2D"],
        up_block_types=["UpBlock2D"],
        num_class_embeds=classes,
    )
    return DiffusersSynthesizer(unet, DDIMScheduler(prediction_type="v_prediction"), steps=2, value_range=(0, 100))


def monai_model(size=(8, 8), source=None):
    pytest.importorskip("monai")
    from monai.networks.schedulers import DDIMScheduler

    torch.manual_seed(0)
    unet = build_network(
        "monai:DiffusionModelUNet",
        spatial_dims=len(size),
        in_channels=1 + (0 if source is None else source.shape[0]),
        out_channels=1,
        num_res_blocks=1,
        channels=[8, 8],
        attention_levels=[False, False],
        norm_num_groups=4,
        num_head_channels=4,
    )
    return MonaiSynthesizer(
        unet, DDIMScheduler(num_train_timesteps=100), size=size, steps=2, value_range=(0, 100), source=source
    )


def given(shape=SHAPE, count=2, marks=1):
    image = torch.rand((count, *shape), generator=torch.Generator().manual_seed(0)) * 100
    hidden = torch.zeros((count, marks, *shape[1:]))
    hidden[:, :, 2:5, 3:6] = 100
    return image, torch.cat([image, hidden], 1), hidden[:, :1] > 50


class Known:
    """A perfect model of one image: it predicts that image from any noise."""

    fingerprint = "00"
    value_range = (0, 100)

    def __init__(self, wanted):
        self.fields = {"image": FieldSpec(SHAPE, value_range=self.value_range)}
        self.wanted = wanted
        self.times = []

    def synthesize(self, seeds, conditions=None):
        raise NotImplementedError

    def denoiser(self, count, conditions=None):
        def clean(noisy, time):
            self.times.append(time)
            return (self.wanted / 50 - 1).expand_as(noisy)

        return DenoisingModel(torch.linspace(0.999, 0.001, 100), clean, -1.0, 1.0)


def test_the_region_is_what_the_model_knows_and_the_rest_is_kept_to_the_bit():
    wanted = torch.rand(SHAPE, generator=torch.Generator().manual_seed(5)) * 100
    image, source, hidden = given()
    model = Known(wanted)
    made = DiffusionEditSynthesizer(model, steps=6, jump=3, resamples=2).synthesize([0, 1], {"source": source})["image"]
    assert torch.equal(made[~hidden], image[~hidden])
    assert torch.allclose(made[hidden], wanted.expand_as(made)[hidden], atol=1e-3)
    # Six steps in two stretches, each gone through twice.
    assert len(model.times) == 12
    assert model.times[:6] == [*model.times[:3]] * 2


@pytest.mark.parametrize("make", [diffusers_model, monai_model, lambda: monai_model((8, 8, 8))])
def test_any_ddpm_fills_a_region_and_is_saved(tmp_path, make):
    model = make()
    editor = DiffusionEditSynthesizer(model, steps=3, resamples=2, jump=2)
    image, source, hidden = given(model.fields["image"].shape)
    made = editor.synthesize([3, 4], {"source": source})["image"]
    assert torch.equal(made[~hidden], image[~hidden])
    assert (made[hidden] != image[hidden]).all()
    alone = editor.synthesize([4], {"source": source[1:]})["image"]
    assert torch.allclose(alone[0], made[1], atol=1e-3)
    save_synthesizer(editor, tmp_path / "editor")
    loaded = load_synthesizer(tmp_path / "editor")
    assert loaded.fingerprint == editor.fingerprint
    for other in (loaded, pickle.loads(pickle.dumps(editor))):
        assert torch.equal(other.synthesize([3, 4], {"source": source})["image"], made)


def test_missing_modalities_of_an_unconditional_model():
    model = diffusers_model(channels=3)
    editor = DiffusionEditSynthesizer(model, marks="modalities", steps=3, resamples=1)
    image = torch.rand(2, 3, 8, 8) * 100
    marks = torch.zeros(2, 3, 8, 8)
    marks[0, 1] = marks[1, :2] = 100
    made = editor.synthesize([0, 1], {"source": torch.cat([image, marks], 1)})["image"]
    assert torch.equal(made[marks < 50], image[marks < 50])
    assert (made[marks > 50] != image[marks > 50]).all()
    marks[1] = 100
    with pytest.raises(ConfigurationError, match="no modality that is present at position 1"):
        editor.synthesize([0, 1], {"source": torch.cat([image, marks], 1)})


def test_a_counterfactual_keeps_more_of_the_image_the_weaker_it_is():
    model = diffusers_model(classes=3)
    image = torch.rand(2, *SHAPE) * 100
    conditions = {"source": image, "label": torch.tensor([1, 2])}
    distances = []
    for strength in (0.2, 0.9):
        editor = DiffusionEditSynthesizer(model, marks=0, strength=strength, steps=10)
        assert editor.num_classes == 3
        distances.append((editor.synthesize([0, 1], conditions)["image"] - image).abs().mean())
    assert distances[0] < distances[1]
    other = editor.synthesize([0, 1], {**conditions, "label": torch.tensor([0, 0])})["image"]
    assert not torch.equal(other, editor.synthesize([0, 1], conditions)["image"])
    with pytest.raises(ConfigurationError, match="must hold 'label'"):
        editor.synthesize([0, 1], {"source": image})


def test_a_model_trained_with_the_marked_image_as_its_source_gets_it():
    image, source, hidden = given()
    model = monai_model(source=FieldSpec((2, 8, 8), value_range=(0, 100)))
    made = DiffusionEditSynthesizer(model, steps=2, resamples=1).synthesize([0, 1], {"source": source})["image"]
    assert torch.equal(made[~hidden], image[~hidden])
    with pytest.raises(ConfigurationError, match="`model` must take no source, or the image with its marks"):
        DiffusionEditSynthesizer(monai_model(source=FieldSpec((1, 8, 8), value_range=(0, 100))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "`steps` must be an integer of at least 1"),
        ({"resamples": 0}, "`resamples` must be"),
        ({"jump": True}, "`jump` must be"),
        ({"strength": 0.0}, r"`strength` must be in \(0, 1\]"),
        ({"strength": 0.01}, "leave at least one of 25 steps"),
        ({"marks": 0}, "`strength` must be below 1 without marks"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ConfigurationError, match=message):
        DiffusionEditSynthesizer(Known(torch.zeros(SHAPE)), **options)


def test_bad_sources():
    editor = DiffusionEditSynthesizer(Known(torch.zeros(SHAPE)), steps=2)
    image, source, _ = given()
    for wrong, message in (
        (None, "must hold 'source'"),
        ({"source": image}, r"shape \(2, 2, 8, 8\)"),
        ({"source": torch.cat([source[:, :1], source[:, :1] * 0], 1)}, "nothing marked at position 0"),
        ({"source": torch.cat([source[:, :1], source[:, :1] * 0 + 100], 1)}, "all of the image marked at position 0"),
        ({"source": torch.nn.functional.pad(source, (0, 2))}, r"shape \(2, 2, 8, 8\)"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            editor.synthesize([0, 1], wrong)
    weaker = DiffusionEditSynthesizer(Known(torch.zeros(SHAPE)), steps=2, strength=0.5)  # keeps something everywhere
    weaker.synthesize([0, 1], {"source": torch.cat([source[:, :1], source[:, :1] * 0 + 100], 1)})
    with pytest.raises(ConfigurationError, match="can begin at any noise level"):
        DiffusionEditSynthesizer(torch.nn.Identity())


class TestConformance(SynthesizerConformance):
    tolerance = 1e-3

    def make(self):
        return DiffusionEditSynthesizer(diffusers_model(), steps=2, resamples=2)

    def conditions(self, seeds):
        return {"source": given(count=1)[1].expand(len(seeds), -1, -1, -1).contiguous()}
