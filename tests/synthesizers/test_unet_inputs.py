from __future__ import annotations

import warnings

import diffusers
import pytest
import tiny_nets
import torch

from torchgenaug import seeding
from torchgenaug.conditions import ClassLabels
from torchgenaug.errors import ConfigurationError
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.synthesizers import DiffusersSynthesizer, load_synthesizer, save_synthesizer
from torchgenaug.testing import SynthesizerConformance
from torchgenaug.types import FieldSpec

SOURCE = FieldSpec((1, 8, 8), value_range=(0, 2))


def sampled(net, scheduler=None, **options):
    return DiffusersSynthesizer(
        net, scheduler or diffusers.DDIMScheduler(), **({"steps": 2, "value_range": (0, 1)} | options)
    )


def palette(**options):
    return sampled(tiny_nets.unet(2, out_channels=1), **({"source": SOURCE} | options))


def timestep(**options):
    return sampled(tiny_nets.unet(class_embed_type="timestep"), **options)


def identity(**options):
    return sampled(tiny_nets.unet(class_embed_type="identity"), **options)


def images(*levels):
    return {"source": torch.stack([torch.full((1, 8, 8), float(level)) for level in levels])}


class TestSource(SynthesizerConformance):
    def make(self):
        return palette()

    def conditions(self, seeds):
        return images(*(seed % 3 for seed in seeds))


class TestSourceOfLabelledModel(SynthesizerConformance):
    def make(self):
        net = tiny_nets.unet(4, out_channels=2, classes=3)
        return sampled(net, source=FieldSpec((2, 8, 8), value_range=(0, 1)), guidance_scale=2.0, null_class=2)

    def conditions(self, seeds):
        labels = torch.tensor([seed % 2 for seed in seeds])
        return {"label": labels, "source": torch.stack([torch.full((2, 8, 8), float(seed % 2)) for seed in seeds])}


class TestTimestep(SynthesizerConformance):
    def make(self):
        return timestep()

    def conditions(self, seeds):
        return {"label": torch.tensor([seed % 5 for seed in seeds])}


class TestIdentity(SynthesizerConformance):
    def make(self):
        return identity()

    def conditions(self, seeds):
        return {"embedding": torch.stack([torch.full((32,), float(seed % 5)) for seed in seeds])}


def by_hand(net, seed, steps=2, **inputs):
    """Sampled as diffusers' pipelines do: noisy channels first, the source in [-1, 1] behind them."""
    scheduler = diffusers.DDIMScheduler()
    scheduler.set_timesteps(steps)
    latents = seeding.normal(seeding.derive([seed], seeding.NOISE), (1, 8, 8))
    source = inputs.pop("source", None)
    with torch.no_grad():
        for time in scheduler.timesteps:
            given = latents if source is None else torch.cat([latents, source], 1)
            latents = scheduler.step(net(given, time, **inputs).sample, time, latents).prev_sample
    return latents / 2 + 0.5


@pytest.mark.parametrize(
    ("net", "options", "conditions", "inputs"),
    [
        (
            lambda: tiny_nets.unet(2, out_channels=1),
            {"source": SOURCE},
            images(0.5),
            {"source": images(-0.5)["source"]},
        ),
        (
            lambda: tiny_nets.unet(class_embed_type="timestep"),
            {},
            {"label": torch.tensor([7])},
            {"class_labels": torch.tensor([7])},
        ),
        (
            lambda: tiny_nets.unet(
                class_embed_type="timestep", time_embedding_type="learned", num_train_timesteps=1000
            ),
            {},
            {"label": torch.tensor([7])},
            {"class_labels": torch.tensor([7])},
        ),
        (
            lambda: tiny_nets.unet(class_embed_type="identity"),
            {},
            {"embedding": torch.ones(1, 32)},
            {"class_labels": torch.ones(1, 32)},
        ),
        (lambda: tiny_nets.unet(resnet_time_scale_shift="scale_shift"), {}, None, {}),
        (lambda: tiny_nets.unet(4, out_channels=4, resnet_time_scale_shift="scale_shift"), {}, None, None),
    ],
)
def test_samples_are_those_of_the_network(net, options, conditions, inputs):
    net = net().eval()
    image = sampled(net, **options).synthesize([5], conditions)["image"]
    if inputs is None:
        assert image.shape == (1, 4, 8, 8)
        return
    assert torch.allclose(image, by_hand(net, 5, **inputs), atol=1e-4)


def test_a_source_that_is_not_stated_is_stated_by_a_warning():
    net = tiny_nets.unet(2, out_channels=1)
    with pytest.warns(
        UserWarning, match=r"takes 2 channels and denoises 1: .*source=FieldSpec\(\(1, 8, 8\), value_ran"
    ):
        guessed = sampled(net)
    stated = sampled(net, source=FieldSpec((1, 8, 8), value_range=(0.0, 1.0)))
    assert guessed.fingerprint == stated.fingerprint
    assert stated.fingerprint != palette().fingerprint
    assert stated.condition_fields == {"source": FieldSpec((1, 8, 8), value_range=(0.0, 1.0))}


@pytest.mark.parametrize(
    ("make", "neutral"),
    [
        (palette, images(0)),
        (timestep, {"label": torch.tensor([0])}),
        (identity, {"embedding": torch.zeros(1, 32)}),
    ],
)
def test_without_conditions_there_is_a_preview_with_a_warning(make, neutral):
    synthesizer = make()
    with pytest.warns(UserWarning, match=r"conditioned on \['.*a preview, not training data"):
        preview = synthesizer.synthesize([3])["image"]
    assert torch.equal(preview, synthesizer.synthesize([3], neutral)["image"])
    with pytest.raises(ConfigurationError, match="`conditions` must hold"):
        synthesizer.synthesize([3], {})
    with pytest.raises(ConfigurationError, match=r"`conditions` must hold .*which the synthesizer is conditioned on"):
        SyntheticSequence(synthesizer, seed=0)


def test_a_table_of_classes_has_no_preview():
    both = sampled(tiny_nets.unet(2, out_channels=1, classes=3), source=SOURCE)
    with pytest.raises(ConfigurationError, match="must hold 'label'"):
        both.synthesize([1])


def test_numbers_of_a_known_count_are_classes():
    synthesizer = timestep()
    assert synthesizer.num_classes is None
    known = sampled(tiny_nets.unet(classes=4, class_embed_type="timestep"))
    assert known.num_classes == 4
    sequence = SyntheticSequence(known, conditions=ClassLabels(4), seed=0)
    assert sequence.batch([0, 1])["image"].shape == (2, 1, 8, 8)
    with pytest.raises(ConfigurationError, match=r"must lie in \[0, 4\)"):
        known.synthesize([1], {"label": torch.tensor([4])})


def test_learned_variances_and_a_source():
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range")
    synthesizer = sampled(tiny_nets.unet(2, out_channels=2), scheduler, source=SOURCE)
    assert synthesizer.synthesize([1], images(1))["image"].shape == (1, 1, 8, 8)
    with pytest.raises(ConfigurationError, match=r"out_channels` must be 4 .*less with a source"):
        sampled(tiny_nets.unet(2, out_channels=2), scheduler)


@pytest.mark.parametrize("make", [palette, timestep, identity])
def test_they_are_saved_and_loaded(make, tmp_path):
    synthesizer = make()
    save_synthesizer(synthesizer, tmp_path / "saved")
    loaded = load_synthesizer(tmp_path / "saved")
    assert loaded.fingerprint == synthesizer.fingerprint
    assert loaded.condition_fields == synthesizer.condition_fields


@pytest.mark.parametrize("config", [{"class_embed_type": "timestep"}, {"class_embed_type": "identity"}])
def test_folders_of_diffusers(config, tmp_path):
    net = tiny_nets.unet(2, out_channels=1, **config)
    diffusers.DDPMPipeline(net, diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    loaded = DiffusersSynthesizer.from_pretrained(tmp_path, source=SOURCE, value_range=(0, 1), steps=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert loaded.synthesize([1])["image"].shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: palette(source=FieldSpec((2, 8, 8), value_range=(0, 1))), "`source` must have 1 channels.*For exam"),
        (lambda: palette(source=FieldSpec((1, 4, 8), value_range=(0, 1))), r"spatial size \(8, 8\)"),
        (lambda: palette(source=FieldSpec((1, 8, 8))), "with a value range"),
        (lambda: sampled(tiny_nets.unet(), source=SOURCE), "`source` must have 0 channels.*Leave it out"),
        (
            lambda: sampled(tiny_nets.unet(4, out_channels=2), vae=tiny_nets.autoencoder()),
            "in_channels` must be 2 for a latent diffusion model, got 4.*FunctionSynthesizer",
        ),
        (lambda: sampled(tiny_nets.unet(1, out_channels=2)), "out_channels` must be 1 for 1 input channels"),
        (lambda: timestep(dtype=torch.bfloat16), "`dtype` must be torch.float32 with class_embed_type='timestep'"),
        (
            lambda: sampled(tiny_nets.unet(class_embed_type="timestep", time_embedding_type="fourier")),
            "time_embedding_type` must be 'positional' or 'learned'.*FunctionSynthesizer",
        ),
        (lambda: identity(guidance_scale=2.0), "must be class-conditional"),
        (lambda: palette().synthesize([1], images(3)), r"intensities in \[0, 2\]"),
        (lambda: palette().synthesize([1], images(1) | {"label": torch.tensor([0])}), "must not hold 'label'"),
        (lambda: timestep().synthesize([1], {"label": torch.tensor([-1])}), r"must lie in \[0, inf\), got -1"),
        (lambda: timestep().synthesize([1], {"label": torch.tensor([0.5])}), "must be an int64 tensor"),
        (lambda: identity().synthesize([1], {"embedding": torch.zeros(1, 8)}), r"vectors of shape \(1, 32\)"),
        (lambda: identity().synthesize([1], {"embedding": torch.full((1, 32), torch.nan)}), "must be finite"),
    ],
)
def test_what_cannot_work_is_refused(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()
