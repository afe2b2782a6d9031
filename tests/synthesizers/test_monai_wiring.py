from __future__ import annotations

import pytest
import torch

pytest.importorskip("monai")
import tiny_monai as tiny
from monai.networks.schedulers import DDIMScheduler

from torchgenaug import FieldSpec, MonaiSynthesizer
from torchgenaug.errors import ConfigurationError

SIZE = (8, 8)
SOURCE = FieldSpec((1, *SIZE), value_range=(0, 1))
ATTENTION = {"with_conditioning": True, "cross_attention_dim": 2, "attention_levels": [False, True]}
AGE_SEX = {"age": (0, 100), "sex": (0, 1)}


def build(network, **options):
    settings = {"size": SIZE, "steps": 2, "value_range": (0.0, 1.0), **options}
    return MonaiSynthesizer(network, DDIMScheduler(10), **settings)


def wiring(network, **options):
    return build(network, **options)._wiring


def test_the_channels_say_where_the_conditions_go():
    assert wiring(tiny.unet()).concatenated == 0
    assert wiring(tiny.unet(extra=3), mask_classes=3).concatenated == 3
    assert wiring(tiny.unet(extra=1), mask_classes=3).concatenated == 1
    assert wiring(tiny.unet(extra=1), source=SOURCE).concatenated == 1
    controlled = wiring(tiny.unet(), controlnet=tiny.controlnet(control=3, levels=2), mask_classes=3)
    assert (controlled.control, controlled.concatenated) == ((3, 16, 16), 0)
    both = tiny.unet(extra=3), tiny.controlnet(channels=4)
    assert wiring(both[0], controlnet=both[1], mask_classes=3).concatenated == 3
    assert wiring(tiny.spade_unet(), mask_classes=3).segmented
    numbers = wiring(tiny.unet(**ATTENTION), covariates=AGE_SEX)
    assert (numbers.attended, numbers.constant) == (True, False)
    numbers = wiring(tiny.unet(extra=2), covariates=AGE_SEX)
    assert (numbers.attended, numbers.constant) == (False, True)
    numbers = wiring(tiny.unet(extra=5, **ATTENTION), covariates=AGE_SEX, mask_classes=3)
    assert (numbers.attended, numbers.constant, numbers.concatenated) == (True, True, 3)


def test_what_is_concatenated_comes_in_order():
    mask = tiny.masks([1], SIZE, 3)
    infer_wiring = wiring(tiny.unet(extra=5), covariates=AGE_SEX, mask_classes=3)
    conditions = {"mask": mask, "age": torch.tensor([25]), "sex": torch.tensor([1.0])}
    asked = infer_wiring.inputs(conditions, 1, device=torch.device("cpu"), dtype=torch.float64, encode=None)
    assert asked.maps.dtype == torch.float64
    assert torch.equal(asked.maps[:, :3].argmax(1, keepdim=True), mask)
    assert (asked.maps[:, 3] == 0.25).all()
    assert (asked.maps[:, 4] == 1).all()
    assert asked.control is asked.segmentation is asked.context is None


def test_behind_an_autoencoder_masks_are_shares_and_sources_are_latents():
    encoder = tiny.autoencoder()
    mask = tiny.masks([1], SIZE, 3)
    masked = build(tiny.unet(channels=2, extra=3), autoencoder=encoder, mask_classes=3)
    asked = masked._wiring.inputs({"mask": mask}, 1, device=torch.device("cpu"), dtype=torch.float32, encode=None)
    block = mask[0, 0, :2, :2].flatten()
    assert asked.maps.shape == (1, 3, 4, 4)
    assert asked.maps[0, :, 0, 0].tolist() == [(block == k).sum().item() / 4 for k in range(3)]

    source = tiny.images([1], (1, *SIZE))
    translated = build(tiny.unet(channels=2, extra=2), autoencoder=encoder, source=SOURCE, scale_factor=3.0)
    asked = translated._wiring.inputs(
        {"source": source}, 1, device=torch.device("cpu"), dtype=torch.float32, encode=translated._encoding()
    )
    with torch.no_grad():
        expected = encoder.eval().encode(source * 2 - 1)[0] * 3
    assert torch.allclose(asked.maps, expected, atol=1e-5)


def test_guidance_doubles_everything_but_drops_the_class():
    infer_wiring = wiring(tiny.unet(extra=3), mask_classes=3)
    asked = infer_wiring.inputs(
        {"mask": tiny.masks([1, 2], SIZE, 3)}, 2, device=torch.device("cpu"), dtype=torch.float32, encode=None
    )
    twice = asked._replace(labels=torch.tensor([0, 1])).doubled(9)
    assert twice.labels.tolist() == [0, 1, 9, 9]
    assert torch.equal(twice.maps, torch.cat([asked.maps, asked.maps]))
    assert twice.control is None


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (lambda: tiny.unet(), {"mask_classes": 3}, r"`unet.in_channels` must be 2 or 4: .*mask of 3 classes.*got 1"),
        (lambda: tiny.unet(extra=2), {"source": SOURCE}, r"`unet.in_channels` must be 2: .*source.*got 3"),
        (lambda: tiny.unet(extra=1), {}, r"`unet.in_channels` must be 1: .*\(none\); got 2"),
        (lambda: tiny.unet(), {"covariates": AGE_SEX}, r"`unet.in_channels` must be 3.*2 covariates"),
        (lambda: tiny.unet(**ATTENTION), {}, r"`covariates` must name 2 scalar conditions for cross_attention_dim=2"),
        (lambda: tiny.unet(**ATTENTION), {"covariates": {"age": (0, 1)}}, r"must name 2 .*got \['age'\]"),
        (lambda: tiny.spade_unet(classes=3), {}, "`mask_classes` must be 3, as the SPADE layers of `unet`.*got None"),
        (lambda: tiny.spade_unet(classes=3), {"mask_classes": 4}, "must be 3, as the SPADE layers.*got 4"),
        (
            lambda: tiny.unet(extra=1),
            {"mask_classes": 2, "source": SOURCE},
            "must be None with `mask_classes`, got both",
        ),
        (lambda: tiny.unet(), {"mask_classes": 1}, "`mask_classes` must be an integer of at least 2"),
        (lambda: tiny.unet(), {"mask_classes": True}, "`mask_classes` must be an integer of at least 2"),
    ],
)
def test_conditions_that_do_not_fit_are_named(network, options, message):
    with pytest.raises(ConfigurationError, match=message):
        build(network(), **options)


@pytest.mark.parametrize(
    ("control", "options", "message"),
    [
        ({}, {}, "`mask_classes` or `source` must be given with `controlnet`"),
        ({"control": 2}, {"mask_classes": 3}, "must take a control image of 3 or 1 channels, got one for 2"),
        ({"control": 3}, {"source": SOURCE}, "must take a control image of 1 channels, got one for 3"),
        ({"channels": 2}, {"source": SOURCE}, "must fit each other and images of the size"),
        ({"num_class_embeds": 3}, {"source": SOURCE}, "must fit each other and images of the size"),
        ({"dims": 3}, {"source": SOURCE}, "must fit each other and images of the size"),
    ],
)
def test_a_controlnet_that_does_not_fit_is_named(control, options, message):
    with pytest.raises(ConfigurationError, match=message):
        build(tiny.unet(), controlnet=tiny.controlnet(**control), **options)


def test_an_autoencoder_that_does_not_fit_is_named():
    decoder = tiny.autoencoder(kind="SPADEAutoencoderKL", label_nc=3, spade_intermediate_channels=4)
    with pytest.raises(ConfigurationError, match="SPADE layers of `autoencoder`"):
        build(tiny.unet(channels=2), autoencoder=decoder)
    two = FieldSpec((2, *SIZE), value_range=(0, 1))
    with pytest.raises(ConfigurationError, match="`source` must have 1 channels to be encoded"):
        build(tiny.unet(channels=2, extra=2), autoencoder=tiny.autoencoder(), source=two)
