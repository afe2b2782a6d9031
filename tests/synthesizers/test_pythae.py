from __future__ import annotations

import logging

import pytest
import torch
from pythae import models, samplers
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder
from pythae.trainers import BaseTrainerConfig

from torchgenaug import ClassLabels, SyntheticSequence, load_synthesizer, save_synthesizer
from torchgenaug.errors import BadSampleError, ConfigurationError
from torchgenaug.nets import MixtureLatents, NormalLatents
from torchgenaug.nets.pythae import MODELS
from torchgenaug.synthesizers import build_network
from torchgenaug.synthesizers.pythae.fit import fit_latents
from torchgenaug.synthesizers.pythae.synthesizer import PythaeSynthesizer
from torchgenaug.testing import SynthesizerConformance

logging.disable(logging.INFO)  # pythae's trainers report every step
SHAPE = (1, 10, 12)


def network(model="VAE", seed=0, shape=SHAPE, **arguments):
    torch.manual_seed(seed)
    return build_network(
        "torchgenaug:PythaeNetwork", model=model, input_shape=list(shape), latent_dim=3, width=4, **arguments
    )


def images(count=12, shape=SHAPE):
    torch.manual_seed(5)
    made = torch.rand(count, *shape)
    made[0, 0, 0, 0] = 1.0  # pythae's `fit` demands that 1 occurs
    return made


def plain(model="VAE", **arguments):
    """A model of pythae itself, with its perceptrons."""
    torch.manual_seed(0)
    config = getattr(models, f"{model}Config", None) or getattr(models, f"{model}_Config")
    return getattr(models, model)(config(input_dim=SHAPE, latent_dim=3, **arguments))


class TestOneModel(SynthesizerConformance):
    def make(self):
        return PythaeSynthesizer(network(), value_range=(-1, 1))


class TestOneModelPerClass(SynthesizerConformance):
    def make(self):
        return PythaeSynthesizer(
            {0: network(seed=0), 2: network(seed=1), 3: plain("BetaVAE")}, value_range=(-1000, 2000)
        )

    def conditions(self, seeds):
        return {"label": torch.tensor([(0, 2, 3)[seed % 3] for seed in seeds])}


class TestManifold(SynthesizerConformance):
    def make(self):
        return PythaeSynthesizer(network("RHVAE"), sampler=fit_latents(network("RHVAE"), images(), components=8))


class TestCodes(SynthesizerConformance):
    def make(self):
        return PythaeSynthesizer(network("VQVAE"), sampler=fit_latents(network("VQVAE"), images(), steps=2))


class TestVolumes(SynthesizerConformance):
    def make(self):
        return PythaeSynthesizer(network("VAMP", shape=(2, 6, 7, 5)))


@pytest.mark.parametrize("model", MODELS)
def test_every_model_samples_saves_and_loads(model, tmp_path):
    made = network(model)
    needs = model in ("AE", "RAE_L2", "RAE_GP", "RHVAE", "VQVAE")
    sampler = fit_latents(made, images(), steps=1) if needs else None
    synthesizer = PythaeSynthesizer(made, sampler=sampler, value_range=(-1, 1))
    batch = synthesizer.synthesize([1, 2])["image"]
    assert batch.shape == (2, *SHAPE)
    assert -1 <= batch.min() < batch.max() <= 1
    synthesizer.trained_on = {"ids": ["a"]}
    save_synthesizer(synthesizer, tmp_path / "saved")
    loaded = load_synthesizer(tmp_path / "saved")
    assert loaded.fingerprint == synthesizer.fingerprint
    assert loaded.trained_on == {"ids": ["a"]}
    assert torch.equal(loaded.synthesize([1, 2])["image"], batch)


@pytest.mark.parametrize("model", [name for name in MODELS if name not in ("AE", "RAE_L2", "RAE_GP", "VQVAE", "RHVAE")])
def test_a_model_of_pythae_itself_is_taken_and_saved(model, tmp_path):
    given = plain(model)
    synthesizer = PythaeSynthesizer(given)
    latents = synthesizer._latents[None]([3, 4])
    expected = given.eval().decoder(latents)["reconstruction"]
    assert torch.allclose(synthesizer.synthesize([3, 4])["image"], expected, atol=1e-6)
    save_synthesizer(synthesizer, tmp_path / "saved")
    assert load_synthesizer(tmp_path / "saved").fingerprint == synthesizer.fingerprint


def test_classes_come_from_their_models_in_any_order():
    synthesizer = PythaeSynthesizer({0: network(seed=0), 1: network(seed=1)})
    mixed = synthesizer.synthesize([4, 5, 6], {"label": torch.tensor([1, 0, 1])})["image"]
    one = PythaeSynthesizer(network(seed=1)).synthesize([4, 6])["image"]
    zero = PythaeSynthesizer(network(seed=0)).synthesize([5])["image"]
    assert torch.allclose(mixed[[0, 2]], one, atol=1e-6)
    assert torch.allclose(mixed[[1]], zero, atol=1e-6)


def test_per_class_saved_and_in_a_sequence(tmp_path):
    rhvae = network("RHVAE")
    manifold = fit_latents(rhvae, images(), components=5)
    synthesizer = PythaeSynthesizer({0: network(), 1: rhvae}, sampler={0: None, 1: manifold})
    save_synthesizer(synthesizer, tmp_path / "saved", weights_dtype=torch.float16)
    loaded = load_synthesizer(tmp_path / "saved")
    batch = SyntheticSequence(loaded, ClassLabels(2)).batch(range(4))
    assert batch["image"].shape == (4, *SHAPE)
    assert loaded.classes == (0, 1)
    assert loaded.fingerprint != synthesizer.fingerprint


def test_the_given_model_stays_as_it_is():
    made = network().train()
    synthesizer = PythaeSynthesizer(made)
    before = synthesizer.synthesize([1])["image"]
    with torch.no_grad():
        next(made.decoder.parameters()).zero_()
    assert made.training
    assert next(made.parameters()).requires_grad
    assert torch.equal(synthesizer.synthesize([1])["image"], before)


def test_fingerprint_knows_decoder_latents_and_range():
    base = PythaeSynthesizer(network())
    mixture = fit_latents(network(), images(), components=2)
    others = [
        PythaeSynthesizer(network(seed=1)),
        PythaeSynthesizer(network(), value_range=(-1, 1)),
        PythaeSynthesizer(network(), sampler=mixture),
        PythaeSynthesizer({0: network()}),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_the_range_is_mapped_linearly_and_never_left():
    wide = PythaeSynthesizer(network(), value_range=(-1000, 3000)).synthesize([1, 2])["image"]
    unit = PythaeSynthesizer(network()).synthesize([1, 2])["image"]
    assert torch.allclose(wide, unit * 4000 - 1000, atol=1e-2)


def test_rhvae_trained_by_pythae_brings_its_manifold():
    model = plain("RHVAE")
    model({"data": images()})
    model.update()
    synthesizer = PythaeSynthesizer(model)
    assert torch.equal(synthesizer._latents[None].centroids, model.centroids_tens.detach())
    config = samplers.RHVAESamplerConfig(mcmc_steps_nbr=3, n_lf=2, eps_lf=0.25)
    latents = PythaeSynthesizer(model, sampler=samplers.RHVAESampler(model, config))._latents[None]
    assert (latents.steps, latents.leapfrog_steps, latents.step_size) == (3, 2, 0.25)
    assert torch.allclose(
        latents.log_density(torch.zeros(1, 3).double())[0].float().exp(),
        model.G_inv(torch.zeros(1, 3)).det().sqrt(),
        rtol=1e-3,
    )


def fitted(name, model, tmp_path):
    sampler = getattr(samplers, name)(model)
    if name in ("GaussianMixtureSampler",):
        sampler.fit(images(40))
    else:
        config = BaseTrainerConfig(output_dir=str(tmp_path), num_epochs=1, per_device_train_batch_size=20, no_cuda=True)
        sampler.fit(images(40), training_config=config)
    return sampler


@pytest.mark.filterwarnings("ignore::UserWarning:pythae.*", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("GaussianMixtureSampler", "AE"),
        ("MAFSampler", "AE"),
        ("IAFSampler", "VAE"),
        ("TwoStageVAESampler", "VAE"),
        ("PixelCNNSampler", "VQVAE"),
    ],
)
def test_fitted_samplers_of_pythae(name, model, tmp_path):
    arguments = {"num_embeddings": 8} if model == "VQVAE" else {}
    base = plain(model, **arguments)
    with pytest.raises(ConfigurationError, match=f"fitted, got a {name}"):
        PythaeSynthesizer(base, sampler=getattr(samplers, name)(base))
    sampler = fitted(name, base, tmp_path / "fit")
    synthesizer = PythaeSynthesizer(base, sampler=sampler)
    batch = synthesizer.synthesize(range(1000))["image"]
    torch.manual_seed(1)
    theirs = sampler.sample(1000)
    assert torch.allclose(batch.mean(0), theirs.mean(0), atol=0.03)
    save_synthesizer(synthesizer, tmp_path / "saved")
    loaded = load_synthesizer(tmp_path / "saved")
    assert loaded.fingerprint == synthesizer.fingerprint
    assert torch.equal(loaded.synthesize([1, 2])["image"], synthesizer.synthesize([1, 2])["image"])


@pytest.mark.parametrize(
    ("name", "model", "kind"),
    [
        ("NormalSampler", "VAE", "NormalLatents"),
        ("HypersphereUniformSampler", "VAE", "SphereLatents"),
        ("PoincareDiskSampler", "PoincareVAE", "BallLatents"),
        ("VAMPSampler", "VAMP", "MixtureLatents"),
    ],
)
def test_samplers_that_need_no_fitting(name, model, kind):
    base = plain(model)
    made = PythaeSynthesizer(base, sampler=getattr(samplers, name)(base))
    assert type(made._latents[None]).__name__ == kind


def test_a_mixture_finds_the_clusters_of_the_codes():
    model = network("AE")
    latents = fit_latents(model, torch.cat([torch.zeros(20, *SHAPE), torch.ones(10, *SHAPE)]), components=2)
    codes = model.encode(torch.stack([torch.zeros(SHAPE), torch.ones(SHAPE)]))
    order = latents.weights.argsort(descending=True)
    assert torch.allclose(latents.weights[order], torch.tensor([2 / 3, 1 / 3]), atol=1e-3)
    assert torch.allclose(latents.means[order], codes, atol=1e-3)


class Doubled(BaseDecoder):
    """A decoder of the user's own, beyond [0, 1]."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 120)

    def forward(self, z):
        return ModelOutput(reconstruction=4 * self.linear(z).reshape(-1, *SHAPE))


class Random(Doubled):
    def forward(self, z):
        return ModelOutput(reconstruction=torch.rand(len(z), *SHAPE))


def with_decoder(decoder):
    return models.VAE(models.VAEConfig(input_dim=SHAPE, latent_dim=3), decoder=decoder)


def test_a_decoder_of_ones_own_works_but_is_not_saved(tmp_path):
    torch.manual_seed(0)
    synthesizer = PythaeSynthesizer(with_decoder(Doubled()))
    batch = synthesizer.synthesize([1, 2])["image"]
    assert (batch.min(), batch.max()) == (0, 1)
    with pytest.raises(ConfigurationError, match="knows how it was built"):
        save_synthesizer(synthesizer, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_nan_is_not_clipped_away():
    broken = network()
    with torch.no_grad():
        broken.model.decoder.first.bias[0] = float("nan")
    with pytest.raises(BadSampleError, match="NaN or Inf in 2 of 2"):
        PythaeSynthesizer(broken).synthesize([1, 2])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PythaeSynthesizer(torch.nn.Linear(2, 2)), "a model of pythae or a PythaeNetwork, got Linear"),
        (lambda: PythaeSynthesizer({}), "at least one model"),
        (lambda: PythaeSynthesizer({"a": network()}), "got the key 'a'"),
        (lambda: PythaeSynthesizer({0: network(), 1: network(shape=(1, 8, 8))}), "one image shape"),
        (lambda: PythaeSynthesizer({0: network(), 1: network()}, sampler={0: None}), r"same classes .* got \[0\]"),
        (lambda: PythaeSynthesizer(network("AE")), "no prior of its own.*fit_latents"),
        (lambda: PythaeSynthesizer(network("VQVAE")), "no prior of its own"),
        (lambda: PythaeSynthesizer(network("RHVAE")), "holds no training images.*fit_latents"),
        (lambda: PythaeSynthesizer(network(), sampler=MixtureLatents(2, 7)), "must decode the latents"),
        (lambda: PythaeSynthesizer(network(), sampler="normal"), "what fit_latents returns, got str"),
        (lambda: PythaeSynthesizer(network(), value_range=(1, 0)), "low < high"),
        (lambda: PythaeSynthesizer(with_decoder(Random())), "decode each latent alone"),
        (lambda: fit_latents(network(), images() * 2), r"lie in \[0, 1\], got 0"),
        (lambda: fit_latents(network(), images().long()), "floating-point tensor"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()


def test_bad_labels():
    synthesizer = PythaeSynthesizer({0: network(), 2: network()})
    with pytest.raises(ConfigurationError, match=r"one of \(0, 2\), got 1"):
        synthesizer.synthesize([1], {"label": torch.tensor([1])})
    with pytest.raises(ConfigurationError, match="must hold 'label'"):
        synthesizer.synthesize([1])
    with pytest.raises(ConfigurationError, match="at least one seed"):
        PythaeSynthesizer(network(), sampler=NormalLatents((3,))).synthesize([])
