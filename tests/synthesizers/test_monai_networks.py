from __future__ import annotations

import pytest
import torch
from torch import nn

from tests import clean_interpreter

pytest.importorskip("monai")
import tiny_monai as tiny
import tiny_nets
from monai.networks.schedulers import DDIMScheduler

from torchgenaug import MonaiSynthesizer
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.monai import networks
from torchgenaug.synthesizers.parts.fingerprints import module_digest


def build(network, **options):
    settings = {"size": (8, 8), "steps": 2, "value_range": (0.0, 1.0), **options}
    return MonaiSynthesizer(network, DDIMScheduler(10), **settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (8, 8, 8)}, r"`size` must hold 2 positive lengths for a 2D network, got \(8, 8, 8\)"),
        ({"size": 8}, "`size` must hold 2 positive lengths"),
        ({"size": (8, 0)}, "`size` must hold 2 positive lengths"),
        ({"size": (8, 9)}, r"halved 1 times by the network, got \(8, 9\), .*no multiple of 2.*size=\(8, 10\)"),
        ({"scale_factor": 2.0}, "`scale_factor` must be 1 without an autoencoder"),
        ({"scale_factor": 0}, "`scale_factor` must be positive and finite, got 0"),
        ({"guidance_scale": 2.0}, "must be class-conditional for guidance_scale=2.0"),
        ({"null_class": 2}, "must be class-conditional for null_class=2"),
        ({"value_range": (1, 0)}, "`value_range` must be"),
        ({"network_range": (1, 0)}, "must be .low, high., finite"),
        ({"label_channels": 1}, "`label_channels` must be 0 or at least 2"),
        ({"label_channels": 2}, "must be less than the 1 channels"),
        ({"dtype": torch.int64}, "`dtype` must be one of"),
        ({"controlnet": nn.Linear(1, 1)}, "`controlnet` must be a ControlNet of monai.networks.nets, got a torch.nn"),
        ({"autoencoder": nn.Linear(1, 1)}, "`autoencoder` must be a AutoencoderKL or VQVAE or SPADEAutoencoderKL"),
    ],
)
def test_what_cannot_work_is_named_at_construction(options, message):
    with pytest.raises(ConfigurationError, match=message):
        build(tiny.unet(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance_scale": 2.0}, "`null_class` must be given with guidance_scale=2.0"),
        ({"guidance_scale": -1.0, "null_class": 2}, "`guidance_scale` must be finite and at least 0"),
        ({"null_class": 3}, r"`null_class` must be a class index in \[0, 3\), got 3"),
        ({"null_class": True}, "`null_class` must be a class index"),
    ],
)
def test_wrong_guidance_is_named(options, message):
    with pytest.raises(ConfigurationError, match=message):
        build(tiny.unet(num_class_embeds=3), **options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "must hold 'label'.*ClassLabels"),
        ([0, 3], r"must lie in \[0, 2\)"),
        ([0, 2], "must lie in"),
        ([0.5, 1.0], "must be an int64 tensor"),
    ],
)
def test_wrong_labels_are_named(labels, message):
    synthesizer = build(tiny.unet(num_class_embeds=3), null_class=2)
    with pytest.raises(ConfigurationError, match=message):
        synthesizer.synthesize([1, 2], None if labels is None else {"label": torch.tensor(labels)})
    with pytest.raises(ConfigurationError, match="must not hold 'label'"):
        build(tiny.unet()).synthesize([1], {"label": torch.tensor([0])})


@pytest.mark.parametrize("network", [nn.Linear(1, 1), tiny_nets.unet(), "model.pt"])
def test_networks_of_others_are_refused(network):
    with pytest.raises(ConfigurationError, match="`unet` must be a DiffusionModelUNet or SPADEDiffusionModelUNet"):
        build(network)


def test_networks_that_do_not_belong_together_are_named():
    with pytest.raises(ConfigurationError, match=r"`autoencoder` must have latents of 3 channels.*got one of 2"):
        build(tiny.unet(channels=3), autoencoder=tiny.autoencoder())
    with pytest.raises(ConfigurationError, match="`autoencoder` must be 2D, as `unet` is, got one of 3"):
        build(tiny.unet(channels=2), autoencoder=tiny.autoencoder(3))
    with pytest.raises(ConfigurationError, match=r"behind the autoencoder: \(3, 4\).*size=\(8, 8\)"):
        build(tiny.unet(channels=2), autoencoder=tiny.autoencoder(), size=(6, 8))
    with pytest.raises(ConfigurationError, match=r"`size` must be one that `autoencoder` gives back.*size=\(8, 8\)"):
        build(tiny.unet(channels=2), autoencoder=tiny.autoencoder(), size=(9, 8))


def test_a_mask_is_asked_for_or_made_not_both():
    with pytest.raises(ConfigurationError, match="`label_channels` must be 0 with `mask_classes`"):
        build(tiny.unet(channels=4, extra=3), mask_classes=3, label_channels=3)


def test_shapes_are_found_without_computing():
    network = tiny.unet(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    size = (64, 64, 64)  # a second or more, if it were computed
    shape = networks.shape_of(
        network, "forward", torch.empty(1, 1, *size, device="meta"), torch.empty(1, device="meta")
    )
    assert shape == (1, 1, *size)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_digest_sees_weights_and_settings_without_weights():
    one, two = tiny.unet(), tiny.unet()
    assert module_digest(one) == module_digest(two)
    with torch.no_grad():
        next(two.parameters()).view(-1)[0] += 1e-3
    assert module_digest(one) != module_digest(two)
    assert module_digest(one) != module_digest(tiny.unet(norm_eps=1e-3))


def test_without_monai_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['monai'] = None\n"
        "import torch, torchgenaug\n"
        "from torchgenaug.errors import MissingExtraError\n"
        "try: torchgenaug.MonaiSynthesizer(torch.nn.Linear(1, 1), None, size=(8, 8), value_range=(0, 1))\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = clean_interpreter.run(["-c", code])
    assert "pip install 'torchgenaug[monai]'" in done.stdout


def test_importing_the_module_imports_no_monai():
    code = (
        "import sys, torchgenaug; torchgenaug.MonaiSynthesizer; torchgenaug.load_monai_bundle\n"
        "print('monai' in sys.modules or 'diffusers' in sys.modules)"
    )
    assert clean_interpreter.run(["-c", code]).stdout == "False\n"
