from __future__ import annotations

import json

import diffusers
import pytest
import tiny_dit
import tiny_nets
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from torchgenaug import seeding
from torchgenaug.conditions import ClassLabels
from torchgenaug.errors import ConfigurationError, SynthesizerLoadError
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.synthesizers import DiffusersSynthesizer, DiTSynthesizer, load_synthesizer, save_synthesizer
from torchgenaug.testing import SynthesizerConformance


def made(transformer=None, scheduler=None, **options):
    options = {"vae": tiny_nets.autoencoder(), "steps": 3, "value_range": (-1, 1)} | options
    return DiTSynthesizer(transformer or tiny_dit.transformer(), scheduler or diffusers.DDIMScheduler(), **options)


def labels(*values):
    return {"label": torch.tensor(values)}


class TestGuided(SynthesizerConformance):
    def make(self):
        return made(guidance_scale=3.0)

    def conditions(self, seeds):
        return labels(*(seed % 3 for seed in seeds))


class TestLearnedVariances(SynthesizerConformance):
    def make(self):
        scheduler = diffusers.DDPMScheduler(variance_type="learned_range")
        return made(tiny_dit.transformer(variances=True), scheduler, vae=None, value_range=(-1000, 2000))

    def conditions(self, seeds):
        return labels(*(seed % 3 for seed in seeds))


def pipeline_images(transformer, scheduler, noise, classes, guidance_scale, monkeypatch):
    """What diffusers' own pipeline makes of the same noise, before it clamps."""
    module = diffusers.pipelines.dit.pipeline_dit
    vae, images = tiny_nets.autoencoder(), []
    monkeypatch.setattr(module, "randn_tensor", lambda **_: noise)
    decode = type(vae).decode

    def recorded(self, latents, **options):
        result = decode(self, latents, **options)
        images.append(result.sample)
        return result

    pipeline = module.DiTPipeline(transformer.eval(), vae.eval(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    with monkeypatch.context() as patch:
        patch.setattr(type(vae), "decode", recorded)
        pipeline(classes, guidance_scale=guidance_scale, num_inference_steps=3)
    return images[0]


class NullIs1000(nn.Module):
    """Class 3 under the number that DiTPipeline has for it."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, index):
        return self.table(torch.where(index == 1000, 3, index))


@pytest.mark.parametrize("variances", [False, True])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("scheduler", [diffusers.DDIMScheduler, diffusers.DPMSolverMultistepScheduler])
def test_the_same_as_diffusers_pipeline_for_the_same_noise(monkeypatch, scheduler, guidance_scale, variances):
    net = tiny_dit.transformer(variances=variances)
    synthesizer = made(net, scheduler(), guidance_scale=guidance_scale)
    noise = seeding.normal(seeding.derive([5, 6], seeding.NOISE), (2, 4, 4))
    for block in net.transformer_blocks:
        embedder = block.norm1.emb.class_embedder
        embedder.embedding_table = NullIs1000(embedder.embedding_table)
    expected = pipeline_images(net, scheduler(), noise, [0, 2], guidance_scale, monkeypatch)
    got = synthesizer.synthesize([5, 6], labels(0, 2))["image"]
    assert expected.std() > 0.01
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_classes_and_guidance_matter():
    plain, guided = made(), made(guidance_scale=3.0)
    images = [one.synthesize([1], labels(k))["image"] for one in (plain, guided) for k in (0, 1)]
    assert all((a - b).abs().max() > 1e-3 for a in images for b in images if a is not b)
    assert torch.equal(made(guidance_scale=1).synthesize([1], labels(0))["image"], images[0])


def test_learned_variances_reach_a_scheduler_that_uses_them():
    net = tiny_dit.transformer(variances=True)
    dropped = made(net, diffusers.DDPMScheduler(), guidance_scale=2.0)
    used = made(net, diffusers.DDPMScheduler(variance_type="learned_range"), guidance_scale=2.0)
    one, two = (each.synthesize([1], labels(0))["image"] for each in (dropped, used))
    assert (one - two).abs().max() > 1e-3


def test_saved_and_loaded(tmp_path):
    synthesizer = made(guidance_scale=2.0, solver="dpm++", clip=True)
    synthesizer.trained_on = {"data": "digits"}
    save_synthesizer(synthesizer, tmp_path / "saved")
    loaded = load_synthesizer(tmp_path / "saved")
    assert isinstance(loaded, DiTSynthesizer)
    assert loaded.fingerprint == synthesizer.fingerprint
    assert loaded.trained_on == {"data": "digits"}
    assert torch.equal(loaded.synthesize([1], labels(2))["image"], synthesizer.synthesize([1], labels(2))["image"])


def test_fingerprints_differ():
    variants = [{}, {"guidance_scale": 2.0}, {"steps": 4}, {"value_range": (0, 1)}, {"vae": None}, {"solver": "euler"}]
    assert len({made(**options).fingerprint for options in variants}) == len(variants)


def test_a_pipeline_folder(tmp_path):
    net = tiny_dit.transformer(variances=True)
    diffusers.DiTPipeline(net, tiny_nets.autoencoder(), diffusers.DDIMScheduler()).save_pretrained(tmp_path)
    loaded = DiTSynthesizer.from_pretrained(tmp_path, steps=3, value_range=(-1, 1), guidance_scale=2.0)
    assert loaded.fingerprint == made(net, guidance_scale=2.0).fingerprint
    with pytest.raises(SynthesizerLoadError, match=r"got DiTPipeline .* DiTSynthesizer\.from_pretrained"):
        DiffusersSynthesizer.from_pretrained(tmp_path, value_range=(0, 1))


def test_the_transformer_of_older_folders(tmp_path):
    """The published models call the same network Transformer2DModel."""
    net = tiny_dit.transformer()
    net.save_pretrained(tmp_path / "transformer")
    diffusers.DDIMScheduler().save_pretrained(tmp_path / "scheduler")
    config = tmp_path / "transformer" / "config.json"
    config.write_text(config.read_text().replace("DiTTransformer2DModel", "Transformer2DModel"))
    loaded = DiTSynthesizer.from_pretrained(tmp_path, steps=3, value_range=(-1, 1))
    expected = made(net, vae=None).synthesize([1], labels(1))["image"]
    assert torch.equal(loaded.synthesize([1], labels(1))["image"], expected)


def test_in_a_sequence():
    sequence = SyntheticSequence(made(guidance_scale=2.0), ClassLabels(3))
    assert sequence.synthesizer.num_classes == 3
    assert sequence.batch([0, 1])["image"].shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transformer": tiny_nets.unet()}, "`transformer` must be a diffusers.DiTTransformer2DModel, got UNet2DModel"),
        ({"transformer": tiny_dit.transformer(sample_size=5)}, "sample_size` must be a multiple of patch_size=2"),
        ({"transformer": tiny_dit.transformer(out_channels=3)}, "out_channels` must be 2, or 4 with variances"),
        ({"transformer": tiny_dit.transformer(channels=3)}, "`vae` must decode latents of 3 channels"),
        ({"scheduler": diffusers.DDPMScheduler(variance_type="learned")}, "must not expect variances"),
        ({"guidance_scale": -1.0}, "`guidance_scale` must be finite and at least 0, got -1.0"),
        ({"guidance_scale": "3"}, "`guidance_scale` must be finite"),
        ({"steps": 0}, r"`steps` must be an integer in \[1, 1000\]"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        made(**options)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [(None, "conditioned on 3 classes"), (labels(3), r"must lie in \[0, 3\)"), (labels(0, 1), "shape")],
)
def test_labels_that_do_not_fit(conditions, message):
    with pytest.raises(ConfigurationError, match=message):
        made(guidance_scale=2.0).synthesize([1], conditions)


def test_no_seeds():
    with pytest.raises(ConfigurationError, match="`seeds` must hold at least one"):
        made().synthesize([], labels())


def test_tables_that_are_in_no_file_are_not_rounded(tmp_path):
    """Positions of patches: loading makes them anew, in full precision."""
    save_synthesizer(made(), tmp_path / "small", weights_dtype=torch.float16)
    index = json.loads((tmp_path / "small" / "synthesizer.json").read_text())
    assert load_synthesizer(tmp_path / "small").fingerprint == index["fingerprint"]


def test_tables_that_older_versions_wrote_are_no_foreign_weights(tmp_path):
    tiny_dit.transformer().save_pretrained(tmp_path / "transformer")
    diffusers.DDIMScheduler().save_pretrained(tmp_path / "scheduler")
    weights = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors"
    held = load_file(weights)
    assert "pos_embed.pos_embed" not in held
    save_file(held | {"pos_embed.pos_embed": torch.zeros(1, 4, 4)}, weights)
    assert DiTSynthesizer.from_pretrained(tmp_path, steps=2, value_range=(0, 1))
    save_file(held | {"pos_embed.other": torch.zeros(1)}, weights)
    with pytest.raises(SynthesizerLoadError, match="1 unexpected"):
        DiTSynthesizer.from_pretrained(tmp_path, steps=2, value_range=(0, 1))
