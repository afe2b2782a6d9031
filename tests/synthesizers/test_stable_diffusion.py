"""Stable Diffusion types of models: conformance, conditions, saving, and what is refused."""

from __future__ import annotations

import diffusers
import pytest
import tiny_nets
import tiny_prompted
import torch

from torchgenaug.conditions import JointConditions, Prompts, RealFields
from torchgenaug.errors import ConfigurationError
from torchgenaug.sequence.sequence import SyntheticSequence
from torchgenaug.synthesizers import StableDiffusionSynthesizer, load_synthesizer, save_synthesizer
from torchgenaug.testing import SynthesizerConformance
from torchgenaug.types import FieldSpec


def made(unet=None, scheduler=None, **options):
    options = {"vae": tiny_prompted.vae(), "steps": 4, "value_range": (-1, 1)} | options
    if "guidance_scale" in options:
        options = {"negative_prompt_embeds": tiny_prompted.NEGATIVE} | options
    return StableDiffusionSynthesizer(
        unet or tiny_prompted.unet(), scheduler or diffusers.DDIMScheduler(clip_sample=False), **options
    )


def asked(seeds, channels=1, control=None):
    """Conditions that depend on the seeds alone."""
    pixels = torch.stack([torch.linspace(-0.9, 0.9, 64).roll(seed % 7).reshape(1, 8, 8) for seed in seeds])
    batch = {
        "prompt_embeds": tiny_prompted.embeddings(4)[[seed % 4 for seed in seeds]],
        "source": pixels.expand(-1, channels, -1, -1).clone(),
        "mask": torch.zeros((len(seeds), 1, 8, 8), dtype=torch.int64),
    }
    batch["mask"][:, :, 2:6, 2:6] = 1
    return batch | ({} if control is None else {"control": pixels.abs()})


class Conforming(SynthesizerConformance):
    def conditions(self, seeds):
        return asked(seeds)


class TestText(Conforming):
    def make(self):
        return made(guidance_scale=3.0)


class TestStochastic(Conforming):
    def make(self):
        return made(scheduler=diffusers.EulerAncestralDiscreteScheduler(), guidance_scale=3.0)


class TestImage(Conforming):
    def make(self):
        return made(mode="image", strength=0.5, scheduler=diffusers.DDPMScheduler(clip_sample=False))


class TestInpaint(Conforming):
    def make(self):
        return made(mode="inpaint", guidance_scale=2.0, solver="dpm++")


class TestInpaintByConcatenation(Conforming):
    def make(self):
        return made(tiny_prompted.unet(9), mode="inpaint", guidance_scale=2.0)


class TestMaskControl(Conforming):
    def make(self):
        control = {"mask": FieldSpec((1, 8, 8), torch.int64, kind="label_map", value_range=(0, 2))}
        return made(controlnet=tiny_prompted.controlnet(), control=control, guidance_scale=2.0)


class TestDistilled(Conforming):
    def make(self):
        return made(tiny_prompted.unet(time_cond_proj_dim=6), diffusers.LCMScheduler(), guidance_scale=8.0)


def image(synthesizer, seeds=(1,), **changes):
    return synthesizer.synthesize(list(seeds), asked(seeds) | changes)["image"]


def test_prompts_guidance_and_negative_prompts_matter():
    images = [
        image(made()),
        image(made(), prompt_embeds=tiny_prompted.embeddings(1) + 1),
        image(made(guidance_scale=4.0)),
        image(made(guidance_scale=4.0, negative_prompt_embeds=torch.zeros(3, 8))),
    ]
    assert all((a - b).abs().max() > 1e-3 for a in images for b in images if a is not b)
    assert torch.equal(image(made(guidance_scale=1.0)), images[0])


def test_the_guidance_of_a_distilled_network_is_an_input():
    net = tiny_prompted.unet(time_cond_proj_dim=6)
    images = [image(made(net, diffusers.LCMScheduler(), guidance_scale=s)) for s in (1.0, 1.5)]
    assert (images[0] - images[1]).abs().max() > 1e-3


@pytest.mark.parametrize("solver", ["ddim", "euler"])
def test_the_less_strength_the_nearer_to_the_source(solver):
    vae = tiny_prompted.vae(scaling_factor=5.0)
    parent = asked([1])["source"]
    with torch.no_grad():
        seen = vae.eval().decode(vae.encode(parent).latent_dist.mode()).sample
    far, near = (
        (image(made(vae=vae, mode="image", strength=s, steps=100, solver=solver)) - seen).abs().mean()
        for s in (1.0, 0.01)
    )
    assert near < 0.5 * far


@pytest.mark.parametrize("scheduler", [diffusers.DDIMScheduler(clip_sample=False), diffusers.EulerDiscreteScheduler()])
def test_inpainting_keeps_the_known_latents(scheduler):
    synthesizer = made(mode="inpaint", scheduler=scheduler)
    nothing = torch.zeros((1, 1, 8, 8), dtype=torch.int64)
    vae = tiny_prompted.vae().eval()
    with torch.no_grad():
        seen = vae.decode(vae.encode(asked([1])["source"]).latent_dist.mode()).sample
    assert (image(synthesizer, mask=nothing) - seen).abs().max() <= 1e-4
    assert (image(synthesizer) - seen).abs().max() > 1e-2


def test_masks_reach_a_network_that_reads_them():
    synthesizer = made(tiny_prompted.unet(9), mode="inpaint")
    other = torch.ones((1, 1, 8, 8), dtype=torch.int64)
    assert (image(synthesizer) - image(synthesizer, mask=other)).abs().max() > 1e-3


def test_control_of_each_kind():
    spec = FieldSpec((1, 8, 8), torch.int64, kind="label_map", value_range=(0, 2))
    hot = made(controlnet=tiny_prompted.controlnet(3), control={"mask": spec})
    numbers = made(controlnet=tiny_prompted.controlnet(1), control={"mask": spec})
    gray = made(controlnet=tiny_prompted.controlnet(3), control={"edges": FieldSpec((1, 8, 8), value_range=(0, 1))})
    none = made(controlnet=tiny_prompted.controlnet(3), control={"mask": spec}, control_scale=0.0)
    empty = torch.zeros((1, 1, 8, 8), dtype=torch.int64)
    for synthesizer in (hot, numbers):
        assert (image(synthesizer) - image(synthesizer, mask=empty)).abs().max() > 1e-4
    assert image(gray, edges=torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)
    assert torch.allclose(image(none), image(made()), atol=1e-5)


def test_parent_and_control_image_together():
    synthesizer = made(controlnet=tiny_prompted.controlnet(1), mode="image", strength=0.5)
    assert list(synthesizer.condition_fields) == ["prompt_embeds", "source", "control"]
    one, two = (image(synthesizer, control=torch.full((1, 1, 8, 8), value)) for value in (0.0, 1.0))
    assert (one - two).abs().max() > 1e-4


def test_value_ranges_are_those_of_source_and_image():
    wide = made(mode="image", strength=0.5, value_range=(-1000, 2000))
    narrow = made(mode="image", strength=0.5)
    moved = image(wide, source=asked([1])["source"] * 1500 + 500)
    assert (moved - (image(narrow) * 1500 + 500)).abs().max() <= 0.2


def test_another_size_and_three_channels():
    synthesizer = made(vae=tiny_prompted.vae(3), size=(16, 8))
    assert synthesizer.fields["image"].shape == (3, 16, 8)
    assert image(synthesizer).shape == (1, 3, 16, 8)


@pytest.mark.parametrize(
    "options",
    [
        {"guidance_scale": 2.0, "clip": True},
        {"mode": "inpaint", "strength": 0.75, "solver": "unipc"},
        {"mode": "image", "controlnet": "yes", "guidance_scale": 2.0, "size": (16, 16)},
    ],
)
def test_saved_and_loaded(tmp_path, options):
    if "controlnet" in options:
        options = options | {"controlnet": tiny_prompted.controlnet(1)}
    synthesizer = made(**options)
    synthesizer.trained_on = {"data": "brain"}
    save_synthesizer(synthesizer, tmp_path / "saved")
    loaded = load_synthesizer(tmp_path / "saved")
    assert loaded.fingerprint == synthesizer.fingerprint
    assert loaded.trained_on == {"data": "brain"}
    height, width = synthesizer.size
    batch = asked([1], control=True)
    for name in ("source", "mask", "control"):
        batch[name] = batch[name].repeat(1, 1, height // 8, width // 8)
    assert torch.equal(loaded.synthesize([1], batch)["image"], synthesizer.synthesize([1], batch)["image"])


def test_fingerprints_differ():
    variants = [
        {},
        {"steps": 5},
        {"guidance_scale": 2.0},
        {"guidance_scale": 2.0, "negative_prompt_embeds": torch.zeros(3, 8)},
        {"mode": "image"},
        {"mode": "image", "strength": 0.5},
        {"mode": "inpaint"},
        {"controlnet": tiny_prompted.controlnet()},
        {"controlnet": tiny_prompted.controlnet(), "control_scale": 0.5},
    ]
    assert len({made(**options).fingerprint for options in variants}) == len(variants)


def test_in_a_sequence_with_real_parents():
    prompts = Prompts(["healthy", "lesion"], tiny_prompted.embeddings(2))
    real = [{name: value[0] for name, value in asked([k]).items() if name != "prompt_embeds"} for k in range(3)]
    conditions = JointConditions(prompts, RealFields(real, ["source", "mask"]))
    batch = SyntheticSequence(made(mode="inpaint", guidance_scale=2.0), conditions).batch([0, 1])
    assert set(batch) == {"prompt", "prompt_embeds", "source", "mask", "parent", "image"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unet": tiny_nets.unet(4)}, "`unet` must be a diffusers.UNet2DConditionModel, got UNet2DModel"),
        ({"vae": tiny_nets.vq_model(4)}, "`vae` must be a diffusers.AutoencoderKL, got VQModel"),
        ({"vae": tiny_prompted.vae(1, 2)}, "`vae` must decode latents of 4 channels"),
        ({"unet": tiny_prompted.unet(num_class_embeds=3)}, "num_class_embeds` must be None, got 3"),
        ({"unet": tiny_prompted.unet(9)}, "in_channels` must be 4 in mode 'text'"),
        ({"unet": tiny_prompted.unet(5), "mode": "inpaint"}, "in_channels` must be 4 or 9 in mode 'inpaint'"),
        ({"mode": "depth"}, "`mode` must be one of text, image, inpaint, got 'depth'"),
        ({"strength": 0.5}, "`strength` must be None in mode 'text'"),
        ({"mode": "image", "strength": 0.0}, r"`strength` must be in \(0, 1\], got 0.0"),
        ({"mode": "image", "strength": 1.5}, r"`strength` must be in \(0, 1\], got 1.5"),
        ({"mode": "image", "strength": 0.1}, "`strength` must leave at least one of 4 steps"),
        ({"size": (8, 6)}, r"`size` must be \(height, width\), multiples of 4, got \(8, 6\)"),
        ({"size": 8}, "`size` must be"),
        ({"unet": tiny_prompted.unet(sample_size=None)}, "`size` must be given"),
        ({"guidance_scale": 2.0, "negative_prompt_embeds": None}, "`negative_prompt_embeds` must be given"),
        ({"guidance_scale": 2.0, "negative_prompt_embeds": torch.zeros(3, 7)}, r"floating point, \(tokens, 8\), got"),
        ({"guidance_scale": float("nan")}, "`guidance_scale` must be finite"),
        ({"control": {"mask": FieldSpec((1, 8, 8), value_range=(0, 1))}}, "`control` must be None without"),
        ({"controlnet": tiny_nets.unet()}, "`controlnet` must be a diffusers.ControlNetModel"),
        ({"controlnet": tiny_prompted.controlnet(cross_attention_dim=4)}, "built like `unet`, got another cross_att"),
        ({"controlnet": tiny_prompted.controlnet(latent_channels=3)}, "built like `unet`"),
        ({"controlnet": tiny_prompted.controlnet(global_pool_conditions=True)}, "global_pool_conditions"),
        (
            {"controlnet": tiny_prompted.controlnet(conditioning_embedding_out_channels=(4, 4, 4))},
            "`controlnet` must shrink its image as `vae` does, by 2, got 4",
        ),
        (
            {"controlnet": tiny_prompted.controlnet(), "control": {"mask": FieldSpec((2, 8, 8), value_range=(0, 1))}},
            "`control` must be an image or label map of 1 or 3 channels",
        ),
        ({"controlnet": tiny_prompted.controlnet(), "control": {"a": 1}}, "`control` must map one name to a FieldSpec"),
        (
            {
                "controlnet": tiny_prompted.controlnet(),
                "control": {"source": FieldSpec((1, 8, 8), value_range=(0, 1))},
                "mode": "image",
            },
            "`control` must have another name than 'source' in mode 'image'",
        ),
        (
            {"mode": "image", "scheduler": diffusers.FlowMatchEulerDiscreteScheduler()},
            "`scheduler` must be able to start at a noised image, got FlowMatchEulerDiscreteScheduler",
        ),
        ({"vae": tiny_prompted.vae(), "steps": 0}, "`steps` must be an integer"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        made(**options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_embeds": None}, "`conditions` must hold 'prompt_embeds'"),
        ({"prompt_embeds": torch.zeros(1, 3, 9)}, r"floating point of shape \(1, 3, 8\)"),
        ({"prompt_embeds": torch.zeros(1, 4, 8)}, r"floating point of shape \(1, 3, 8\)"),
        ({"prompt_embeds": torch.full((1, 3, 8), torch.nan)}, "must be finite"),
        ({"source": None}, "`conditions` must hold 'source'"),
        ({"source": torch.zeros(1, 1, 4, 8)}, r"floating-point tensor of shape \(1, 1, 8, 8\)"),
        ({"source": torch.full((1, 1, 8, 8), 3.0)}, r"intensities in \[-1, 1\], got \[3, 3\]"),
        ({"mask": None}, "`conditions` must hold 'mask'"),
        ({"mask": torch.full((1, 1, 8, 8), 2)}, "must be binary, 0 or 1, got 2 at position 0"),
        ({"mask": torch.full((1, 1, 8, 8), 0.5)}, "must be binary, 0 or 1, got 0.5"),
        ({"mask": torch.zeros(1, 2, 8, 8)}, r"must have the shape \(1, 1, 8, 8\)"),
    ],
)
def test_conditions_that_do_not_fit(changes, message):
    synthesizer = made(mode="inpaint", guidance_scale=2.0)
    with pytest.raises(ConfigurationError, match=message):
        image(synthesizer, **changes)
    with pytest.raises(ConfigurationError, match="`seeds` must hold at least one"):
        synthesizer.synthesize([], {})


def test_foreign_classes_of_a_control_mask():
    spec = FieldSpec((1, 8, 8), torch.int64, kind="label_map", value_range=(0, 2))
    synthesizer = made(controlnet=tiny_prompted.controlnet(), control={"mask": spec})
    with pytest.raises(ConfigurationError, match=r"values from 5 to 5\. The model never saw such masks"):
        image(synthesizer, mask=torch.full((1, 1, 8, 8), 5))


@pytest.mark.parametrize("scale", [float("nan"), "1", -1, True])
def test_bad_control_scales(scale):
    with pytest.raises(ConfigurationError, match="`control_scale` must be finite and at least 0, got"):
        made(control_scale=scale)


def test_img2img_is_mode_image():
    other, usual = (made(mode=mode, strength=0.5) for mode in ("img2img", "image"))
    assert (other.mode, other.fingerprint) == ("image", usual.fingerprint)
