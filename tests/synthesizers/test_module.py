from __future__ import annotations

import copy
import pickle

import pytest
import tiny_nets
import torch
from torch import nn

from torchgenaug import seeding
from torchgenaug.errors import BadSampleError, ConfigurationError
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.synthesizers import ModuleSynthesizer
from torchgenaug.testing import SynthesizerConformance


def generator():
    """A DCGAN in miniature, with BatchNorm."""
    return tiny_nets.seeded(
        lambda: nn.Sequential(
            nn.Unflatten(1, (6, 1, 1)),
            nn.ConvTranspose2d(6, 4, 4),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 1, 4, 2, 1),
            nn.Tanh(),
        )
    )


class ClassGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(3, 6)
        self.body = generator()

    def forward(self, latents, labels):
        return (self.body(latents + 3 * self.embedding(labels)),)


def wrap(module=None, **options):
    return ModuleSynthesizer(module or generator(), **({"latent_shape": (6,), "value_range": (-1, 1)} | options))


class TestGenerator(SynthesizerConformance):
    def make(self):
        return wrap()


class TestConditional(SynthesizerConformance):
    def make(self):
        return wrap(tiny_nets.seeded(ClassGenerator), num_classes=3)

    def conditions(self, seeds):
        return {"label": torch.tensor([seed % 3 for seed in seeds])}


class TestHalf(SynthesizerConformance):
    tolerance = 0.02

    def make(self):
        return wrap(dtype=torch.bfloat16)


def test_outputs_are_those_of_the_module_in_eval_mode_unchanged():
    module = generator()
    made = wrap(module)
    latents = seeding.normal(seeding.derive([1, 2], seeding.NOISE), (6,))
    module.eval()
    with torch.no_grad():
        assert torch.equal(made.synthesize([1, 2])["image"], module(latents))
    assert made.fields["image"].shape == (1, 8, 8)
    assert made.fields["image"].value_range == (-1, 1)


def test_the_given_module_stays_as_it_is():
    module = generator().train()
    before = copy.deepcopy(module.state_dict())
    made = wrap(module, dtype=torch.bfloat16)
    expected = made.synthesize([1])["image"]
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with torch.no_grad():
        module[1].weight.zero_()
    assert torch.equal(made.synthesize([1])["image"], expected)
    assert not expected.requires_grad
    assert not expected.is_inference()


def test_3d_decoders():
    module = tiny_nets.seeded(lambda: nn.ConvTranspose3d(2, 1, 2, 2))
    made = wrap(module, latent_shape=(2, 3, 4, 5), value_range=(-10, 10))
    assert SyntheticSequence(made).batch([0])["image"].shape == (1, 1, 6, 8, 10)


def test_stated_range_is_enforced_and_not_mapped():
    with pytest.raises(BadSampleError, match=r"must stay in \[0, 1\]"):
        SyntheticSequence(wrap(value_range=(0, 1))).batch([0])


def test_labels_decide():
    made = wrap(tiny_nets.seeded(ClassGenerator), num_classes=3)
    one, two = made.synthesize([5, 5], {"label": torch.tensor([0, 1])})["image"]
    assert (one - two).abs().max() > 1e-3
    with pytest.raises(ConfigurationError, match=r"must hold 'label', got None.*ClassLabels\(3\)"):
        made.synthesize([1])
    with pytest.raises(ConfigurationError, match=r"in \[0, 3\), got 3 at position 0"):
        made.synthesize([1], {"label": torch.tensor([3])})
    with pytest.raises(ConfigurationError, match="must not hold 'label' for a model without classes"):
        wrap().synthesize([1], {"label": torch.tensor([0])})
    with pytest.raises(ConfigurationError, match="`seeds` must hold at least one"):
        wrap().synthesize([])


class Louder(nn.Module):
    """Attributes decide its output that neither its weights nor its printed form tell."""

    def __init__(self, gain=1.0, act=torch.tanh, heads=1):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.inner = nn.MultiheadAttention(8, heads, batch_first=True)
        self.gain, self.act = gain, act

    def forward(self, latents):
        tokens = latents.reshape(-1, 8, 8)
        return self.act(self.gain * self.inner(tokens, tokens, tokens)[0])[:, None]


def test_fingerprint_covers_plain_attributes_of_the_module_and_its_parts():
    variants = [{}, {}, {"gain": 2.0}, {"act": torch.sigmoid}, {"heads": 4}]
    made = [ModuleSynthesizer(Louder(**each), latent_shape=(64,), value_range=(-1, 1)) for each in variants]
    assert made[0].fingerprint == made[1].fingerprint
    assert len({each.fingerprint for each in made}) == len(variants) - 1
    assert pickle.loads(pickle.dumps(made[2])).fingerprint == made[2].fingerprint


def test_fingerprint_covers_weights_structure_and_settings():
    other = generator()
    other[2].running_mean += 1e-3
    variants = [
        wrap(),
        wrap(other),
        wrap(value_range=(-2, 2)),
        wrap(dtype=torch.bfloat16),
        wrap(nn.Sequential(*list(generator())[:-1], nn.Hardtanh())),
    ]
    assert len({made.fingerprint for made in variants}) == len(variants)


class Noisy(nn.Module):
    def forward(self, latents):
        return torch.randn(len(latents), 1, 4, 4)


class Shared(nn.Module):
    def forward(self, latents):
        return (latents - latents.mean(0)).reshape(-1, 1, 2, 3)


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, latents):
        return self.value(latents)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: wrap(lambda x: x), "`module` must be a torch.nn.Module, got function.*FunctionSynthesizer"),
        (lambda: wrap(latent_shape=()), r"`latent_shape` must hold positive sizes.*got \(\)"),
        (lambda: wrap(latent_shape=128), r"`latent_shape` must hold positive sizes.*got 128\. For example \(128,\)"),
        (lambda: wrap(latent_shape=(0,)), r"`latent_shape`.*got \(0,\)"),
        (lambda: wrap(latent_shape=(7,)), r"latents of shape \(batch, 7\), got Sequential, which fails with: .*Check"),
        (lambda: wrap(num_classes=0), "`num_classes` must be a positive integer, got 0"),
        (lambda: wrap(num_classes=3), r"and labels \(batch,\), got Sequential, which fails with: TypeError"),
        (lambda: wrap(value_range=(1, 1)), "`value_range` must be"),
        (lambda: wrap(dtype=torch.int8), "`dtype` must be one of"),
        (lambda: wrap(Noisy()), "a function of each latent alone.*draws random numbers"),
        (lambda: wrap(Shared()), "a function of each latent alone.*statistics of the batch"),
        (lambda: wrap(Returns(lambda x: (x, x))), "must return one floating-point tensor.*got a tuple of 2.*Put it"),
        (lambda: wrap(Returns(lambda x: {"a": x})), "got dict"),
        (lambda: wrap(Returns(lambda x: x)), r"got torch.float32 of shape \(2, 6\)"),
        (lambda: wrap(Returns(lambda x: x.reshape(-1, 1, 2, 3).long())), "got torch.int64"),
        (lambda: wrap(Returns(lambda x: x.reshape(1, -1, 2, 3))), r"one image per latent, got shapes \(1, 2, 2, 3\)"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_modules_that_cannot_be_copied_after_training_say_what_to_do(norm):
    module = nn.Sequential(norm(nn.Linear(4, 16)), nn.Unflatten(1, (1, 4, 4)))
    module(torch.randn(2, 4)).sum().backward()
    with pytest.raises(ConfigurationError, match=r"torch\.nn\.utils\.parametrizations"):
        ModuleSynthesizer(module, latent_shape=(4,), value_range=(-9, 9))
